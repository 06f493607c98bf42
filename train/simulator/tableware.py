"""Builders of kitchen things: vessels, cutlery and what food is served on."""

import numpy as np

from train.simulator.meshes import arc, box, cylinder, ellipsoid, lathe, loft, oval, prism, torus, tube
from train.simulator.shapes import (
    AHEAD,
    Part,
    Rng,
    Shape,
    bow_handle,
    floor_radius,
    inside,
    inside_box,
    line,
    on_round,
    shape,
    vessel,
    within,
)


def mug(rng: Rng) -> Shape:
    """A mug: one handle, nearly straight wall."""
    r, h = within(rng, 0.036, 0.045), within(rng, 0.080, 0.108)
    foot = within(rng, 0.82, 1.0)
    outside = [(r * foot, 0.0), (r, h * within(rng, 0.15, 0.4)), (r, h)]
    handle = bow_handle(r - 0.002, h * 0.2, h * 0.82, within(rng, 0.024, 0.034), within(rng, 0.0045, 0.0065))
    floor = cylinder(r * foot * 0.8, 0.001).moved(z=0.009)
    return shape([Part(vessel(outside, 0.004, 0.008)), Part(floor, "inner"), Part(handle, "body", "handle")])


def cup(rng: Rng) -> Shape:
    """A cup without a handle, wider at the rim."""
    r, h = within(rng, 0.035, 0.043), within(rng, 0.080, 0.115)
    outside = [(r * within(rng, 0.68, 0.8), 0.0), (r, h)]
    parts = [Part(vessel(outside, 0.003, 0.006)), Part(cylinder(r * 0.6, 0.001).moved(z=0.007), "inner")]
    if rng.random() < 0.5:
        parts.append(Part(torus(r, 0.0028).moved(z=h), "light"))
    return shape(parts)


def bowl(rng: Rng) -> Shape:
    """A round bowl with a level middle."""
    r, h = within(rng, 0.065, 0.090), within(rng, 0.045, 0.065)
    full = within(rng, 0.75, 0.9)
    outside = [(r * 0.6, 0.0), (r * 0.63, 0.006), (r * full, h * 0.45), (r, h)]
    ground = floor_radius(outside, 0.005, 0.012)
    floor = cylinder(ground * 0.97, 0.0008).moved(z=0.012)
    return shape([Part(vessel(outside, 0.005, 0.012)), Part(floor, "inner")], inside(ground * 0.95, 0.0128))


def plate(rng: Rng) -> Shape:
    """A flat plate with a raised rim."""
    r, h = within(rng, 0.085, 0.115), within(rng, 0.014, 0.022)
    ground = r * within(rng, 0.62, 0.74)
    outside = [(ground, 0.0), (ground * 1.05, 0.003), (r, h)]
    floor = cylinder(ground * 0.96, 0.0008).moved(z=0.006)
    return shape([Part(vessel(outside, 0.005, 0.006)), Part(floor, "light")], on_round(ground * 0.9, 0.0068))


def bottle(rng: Rng) -> Shape:
    """A bottle with a neck and a cap."""
    r, h = within(rng, 0.028, 0.038), within(rng, 0.19, 0.26)
    neck, shoulder = r * within(rng, 0.34, 0.46), within(rng, 0.52, 0.66)
    profile = [
        (r * 0.92, 0),
        (r, 0.008),
        (r, h * shoulder),
        (neck * 1.3, h * (shoulder + 0.2)),
        (neck, h * 0.9),
        (neck, h),
    ]
    cap = cylinder(neck * 1.25, 0.02).moved(z=h - 0.006)
    parts = [Part(lathe(profile)), Part(cap, str(rng.choice(["pale", "dark"])), "cap")]
    if rng.random() < 0.6:
        parts.append(Part(cylinder(r * 1.012, h * 0.2).moved(z=h * 0.2), "light"))
    return shape(parts)


def jar(rng: Rng) -> Shape:
    """A wide jar with a screw lid."""
    r, h = within(rng, 0.036, 0.047), within(rng, 0.085, 0.125)
    profile = [(r * 0.9, 0.0), (r, 0.008), (r, h * 0.75), (r * 0.8, h * 0.86), (r * 0.8, h * 0.9)]
    lid = cylinder(r * 0.9, h * 0.14).moved(z=h * 0.88)
    finish = str(rng.choice(["metal", "dark"]))
    return shape([Part(lathe(profile)), Part(lid, finish, "lid")], on_round(r * 0.8, h * 1.02))


def vase(rng: Rng) -> Shape:
    """A vase: belly, waist and flared mouth."""
    r, h = within(rng, 0.045, 0.060), within(rng, 0.16, 0.23)
    waist, mouth = r * within(rng, 0.35, 0.5), r * within(rng, 0.6, 0.8)
    belly = within(rng, 0.28, 0.42)
    profile = [
        (r * 0.6, 0),
        (r * 0.9, h * belly * 0.5),
        (r, h * belly),
        (r * 0.85, h * (belly + 0.16)),
        (waist, h * 0.82),
        (mouth, h),
    ]
    return shape([Part(vessel(profile, 0.005, h * 0.3))])


def teapot(rng: Rng) -> Shape:
    """A teapot: spout in front, handle behind, knob on the lid."""
    r = within(rng, 0.056, 0.070)
    h = r * within(rng, 1.3, 1.6)
    profile = [
        (r * 0.62, 0.0),
        (r * 0.92, h * 0.2),
        (r, h * 0.45),
        (r * 0.9, h * 0.75),
        (r * 0.5, h * 0.98),
        (r * 0.1, h * 1.04),
    ]
    x, z = [r * 0.8, r * 1.2, r * 1.45, r * 1.75], [h * 0.3, h * 0.42, h * 0.7, h * 0.95]
    spout = tube(np.stack([x, np.zeros(4), z], -1), [r * 0.24, r * 0.2, r * 0.14, r * 0.11])
    handle = bow_handle(r * 0.85, h * 0.25, h * 0.85, r * 0.62, r * 0.1).turned("z", 180)
    knob = ellipsoid(r * 0.16, r * 0.16, r * 0.15).moved(z=h * 1.12)
    parts = [Part(lathe(profile)), Part(spout, "body", "spout"), Part(handle, "body", "handle"), Part(knob, "light")]
    return shape(parts, front=AHEAD)


def kettle(rng: Rng) -> Shape:
    """A kettle: a bail handle above, a short spout in front."""
    r = within(rng, 0.062, 0.076)
    h = r * within(rng, 1.35, 1.6)
    profile = [(r, 0.0), (r * 1.02, h * 0.12), (r * 0.82, h * 0.7), (r * 0.45, h * 0.92), (r * 0.1, h * 0.95)]
    spout = tube(line((r * 0.7, 0, h * 0.45), (r * 1.4, 0, h * 0.88)), [r * 0.2, r * 0.1])
    bail = tube(arc(r * 0.75, 0, 180) * np.array([1, 1, 1.15]) + np.array([0, 0, h * 0.72]), r * 0.075)
    knob = ellipsoid(r * 0.12, r * 0.12, r * 0.12).moved(z=h * 1.0)
    parts = [Part(lathe(profile)), Part(spout, "body", "spout"), Part(bail, "dark"), Part(knob, "dark")]
    return shape(parts, front=AHEAD)


def pitcher(rng: Rng) -> Shape:
    """A pitcher: tall, one large handle, a lip opposite."""
    r, h = within(rng, 0.048, 0.060), within(rng, 0.16, 0.21)
    outside = [(r * 0.85, 0.0), (r, h * 0.25), (r * 0.78, h * 0.7), (r * 0.9, h)]
    handle = bow_handle(r * 0.84, h * 0.25, h * 0.9, r * 0.75, 0.007)
    lip = tube(line((-r * 0.7, 0, h * 0.86), (-r * 1.12, 0, h * 0.99)), [r * 0.3, r * 0.14])
    parts = [Part(vessel(outside, 0.004, 0.01)), Part(handle, "body", "handle"), Part(lip, "body", "spout")]
    return shape(parts)


def pan(rng: Rng) -> Shape:
    """A frying pan with a long handle."""
    r, h = within(rng, 0.085, 0.105), within(rng, 0.028, 0.038)
    outside = [(r * 0.86, 0.0), (r, h)]
    handle = box(r * within(rng, 1.1, 1.35), 0.022, 0.012, soft=0.004).moved(r * 1.58, 0, h - 0.014)
    ground = floor_radius(outside, 0.004, 0.005)
    floor = cylinder(ground * 0.97, 0.0008).moved(z=0.005)
    parts = [Part(vessel(outside, 0.004, 0.005)), Part(floor, "inner"), Part(handle, "dark", "handle")]
    return shape(parts, inside(ground * 0.95, 0.0058))


def pot(rng: Rng) -> Shape:
    """A cooking pot, open, with two loop handles."""
    r, h = within(rng, 0.070, 0.088), within(rng, 0.065, 0.085)
    outside = [(r, 0.0), (r, h)]
    loop = torus(0.016, 0.004, slices=12).moved(r + 0.012, 0, h * 0.8)
    floor = cylinder(r * 0.9, 0.0008).moved(z=0.005)
    parts = [Part(vessel(outside, 0.004, 0.005)), Part(floor, "inner"), Part(torus(r, 0.003).moved(z=h), "metal")]
    parts += [Part(loop, "dark"), Part(loop.turned("z", 180), "dark")]
    return shape(parts, inside(r * 0.9, 0.0058))


def tray(rng: Rng) -> Shape:
    """A flat rectangular tray with a low wall."""
    x, y, h = within(rng, 0.24, 0.30), within(rng, 0.17, 0.21), within(rng, 0.016, 0.026)
    parts = [Part(box(x, y, 0.004))]
    for side in (-1, 1):
        parts.append(Part(box(x, 0.006, h).moved(y=side * (y / 2 - 0.003))))
        parts.append(Part(box(0.006, y, h).moved(x=side * (x / 2 - 0.003))))
    return shape(parts, inside_box(x / 2 - 0.012, y / 2 - 0.012, 0.004))


def basket(rng: Rng) -> Shape:
    """A woven basket: an open box of bands with a darker floor."""
    x, y, h = within(rng, 0.18, 0.24), within(rng, 0.14, 0.18), within(rng, 0.06, 0.08)
    parts = [Part(box(x, y, 0.005), "inner")]
    for band in range(4):
        z, out = h * band / 4, 0.002 * (band % 2)
        finish = "body" if band % 2 else "inner"
        for side in (-1, 1):
            parts.append(Part(box(x, 0.006 + out, h / 4).moved(0, side * (y / 2 - 0.003), z), finish))
            parts.append(Part(box(0.006 + out, y, h / 4).moved(side * (x / 2 - 0.003), 0, z), finish))
    return shape(parts, inside_box(x / 2 - 0.014, y / 2 - 0.014, 0.005))


def spoon(rng: Rng) -> Shape:
    """A table spoon lying on its back."""
    length, w = within(rng, 0.16, 0.20), within(rng, 0.017, 0.023)
    head = loft([oval(w * 0.7, w * 0.45), oval(w * 1.25, w), oval(w * 1.3, w * 1.03)], [0, 0.007, 0.009]).moved(
        x=length / 2
    )
    handle = tube(line((length / 2 - w, 0, 0.008), (-length / 2, 0, 0.005)), [0.0036, 0.0058], flat=0.45)
    hollow = prism(oval(w * 1.05, w * 0.8), 0.0006).moved(length / 2, 0, 0.009)
    return shape([Part(head, "body", "bowl"), Part(hollow, "inner"), Part(handle, "body", "handle")])


def fork(rng: Rng) -> Shape:
    """A table fork: four tines at +x."""
    length, w = within(rng, 0.16, 0.20), within(rng, 0.013, 0.016)
    parts = [Part(box(0.035, 2 * w, 0.004, soft=0.0015).moved(x=length / 2 - 0.045))]
    tines = [box(0.05, w * 0.3, 0.004).moved(length / 2, (k - 1.5) * w * 0.56) for k in range(4)]
    parts += [Part(tine, "body", "tines") for tine in tines]
    handle = tube(line((length / 2 - 0.05, 0, 0.003), (-length / 2, 0, 0.004)), [0.004, 0.0068], flat=0.5)
    return shape([*parts, Part(handle, "body", "handle")])


def knife(rng: Rng) -> Shape:
    """A kitchen knife: metal blade at +x, coloured grip."""
    blade, grip = within(rng, 0.09, 0.12), within(rng, 0.10, 0.12)
    w = within(rng, 0.024, 0.030)
    outline = np.array([[0, -w / 2], [blade * 0.7, -w / 2], [blade, w / 2], [0, w / 2]])
    handle = box(grip, w * 0.95, 0.018, soft=0.005).moved(x=-grip / 2)
    return shape([Part(prism(outline, 0.003).moved(z=0.007), "metal", "blade"), Part(handle, "body", "handle")])


def spatula(rng: Rng) -> Shape:
    """A slotted turner lying flat."""
    length, w = within(rng, 0.20, 0.25), within(rng, 0.062, 0.078)
    blade = box(w * 1.2, w, 0.004, soft=0.001).moved(x=length / 2)
    slots = [box(w * 0.75, w * 0.07, 0.0046).moved(length / 2, y * w * 0.26) for y in (-1, 0, 1)]
    handle = tube(line((length / 2 - w * 0.5, 0, 0.005), (-length / 2, 0, 0.007)), [0.005, 0.008], flat=0.6)
    return shape([Part(blade, "body", "blade"), *(Part(s, "dark") for s in slots), Part(handle, "body", "handle")])
