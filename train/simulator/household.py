"""Builders of things found about a house and on a desk."""

import numpy as np

from train.simulator.meshes import Mesh, arc, box, cylinder, ellipsoid, lathe, loft, oval, prism, torus, tube
from train.simulator.shapes import AHEAD, Part, Rng, Shape, inside, line, on_box, on_round, shape, vessel, within


def book(rng: Rng) -> Shape:
    """A closed book: coloured cover, pale pages."""
    x, y, h = within(rng, 0.17, 0.23), within(rng, 0.12, 0.16), within(rng, 0.020, 0.042)
    covers = [box(x, y, 0.003), box(x, y, 0.003).moved(z=h - 0.003), box(x, 0.003, h).moved(y=-y / 2 + 0.0015)]
    pages = box(x - 0.008, y - 0.008, h - 0.007).moved(z=0.0035)
    title = box(x * 0.5, y * 0.12, 0.0008).moved(0, y * 0.2, h)
    parts = [Part(pages, "pale"), *(Part(cover) for cover in covers), Part(title, "light")]
    return shape(parts, on_box(x / 2, y / 2, h + 0.0008))


def can(rng: Rng) -> Shape:
    """A drinks can with metal rims."""
    r, h = within(rng, 0.029, 0.034), within(rng, 0.10, 0.13)
    wall = lathe([(r * 0.85, 0.0), (r, 0.006), (r, h - 0.010), (r * 0.86, h - 0.002)])
    lid = cylinder(r * 0.86, 0.002).moved(z=h - 0.003)
    tab = prism(oval(0.009, 0.005), 0.0012).moved(0.006, 0, h - 0.001)
    return shape([Part(wall), Part(lid, "metal", "lid"), Part(tab, "dark")], on_round(r * 0.8, h + 0.0003))


def crate(rng: Rng) -> Shape:
    """A closed cardboard-like box with a strip of tape."""
    x, y, h = within(rng, 0.10, 0.14), within(rng, 0.08, 0.11), within(rng, 0.06, 0.09)
    tape = box(x + 0.001, y * 0.16, h + 0.001)
    return shape(
        [Part(box(x, y, h, soft=0.0015)), Part(tape, "light")], on_box(x / 2 - 0.004, y / 2 - 0.004, h + 0.001)
    )


def carton(rng: Rng) -> Shape:
    """A milk carton with a gable top."""
    w, h = within(rng, 0.062, 0.075), within(rng, 0.14, 0.18)
    body = box(w, w, h)
    gable = loft([_square(w, w), _square(w, 0.006), _square(w, 0.005)], [h, h + w * 0.45, h + w * 0.62])
    band = box(w * 1.006, w * 1.006, h * 0.25).moved(z=h * 0.35)
    return shape([Part(body), Part(gable, "light"), Part(band, "light")])


def candle(rng: Rng) -> Shape:
    """A thick candle with a wick."""
    r, h = within(rng, 0.024, 0.034), within(rng, 0.08, 0.14)
    wick = tube(line((0, 0, h - 0.006), (0.001, 0, h + 0.012)), 0.0016, slices=5)
    body = lathe([(r, 0.0), (r, h), (r * 0.85, h), (r * 0.7, h - 0.005), (0.0, h - 0.006)])
    return shape([Part(body), Part(wick, "dark", "wick")])


def lamp(rng: Rng) -> Shape:
    """A small table lamp with a coloured shade."""
    r, h = within(rng, 0.060, 0.075), within(rng, 0.20, 0.26)
    shade = lathe([(r, h * 0.62), (r * 0.62, h), (r * 0.58, h), (r * 0.95, h * 0.63)])
    foot = lathe([(r * 0.72, 0), (r * 0.72, 0.010), (0.014, 0.018), (0.008, 0.03), (0.008, h * 0.7)])
    return shape([Part(shade, "body", "shade"), Part(foot, str(rng.choice(["metal", "wood"])))])


def light_bulb(rng: Rng) -> Shape:
    """A light bulb with a metal screw, lying."""
    r = within(rng, 0.029, 0.034)
    glass = [
        (r * 0.42, r * 0.9),
        (r * 0.6, r * 1.3),
        (r * 0.95, r * 2.0),
        (r, r * 2.4),
        (r * 0.8, r * 3.0),
        (r * 0.4, r * 3.3),
        (r * 0.08, r * 3.38),
    ]
    screw = [(r * 0.2, 0.0), (r * 0.4, r * 0.12), (r * 0.42, r * 0.95)]
    parts = [Part(lathe(glass), "body"), Part(lathe(screw, slices=12), "metal", "screw")]
    return shape([Part(p.mesh.turned("y", 90).moved(-r * 1.7, 0, r), p.finish, p.name) for p in parts])


def clock(rng: Rng) -> Shape:
    """An alarm clock on two feet, its face in front."""
    r, depth = within(rng, 0.045, 0.056), within(rng, 0.030, 0.040)
    drum = cylinder(r, depth, slices=24)
    face = cylinder(r * 0.86, 0.001, slices=24).moved(z=depth)
    hands = [
        box(0.005, r * 0.62, 0.001).moved(0, r * 0.3, depth + 0.001),
        box(r * 0.45, 0.005, 0.001).moved(r * 0.2, 0, depth + 0.001),
    ]
    bells = [ellipsoid(r * 0.3, r * 0.3, r * 0.3).moved(-r * 0.95, y * r * 0.55, depth / 2) for y in (-1, 1)]
    feet = [box(0.016, 0.012, depth * 0.8).moved(r * 0.97, y * r * 0.45, 0.002) for y in (-1, 1)]
    flat = [
        Part(drum),
        Part(face, "pale", "face"),
        *(Part(m, "dark") for m in hands),
        *(Part(m) for m in (*bells, *feet)),
    ]
    return shape([Part(p.mesh.turned("y", 90), p.finish, p.name) for p in flat], front=AHEAD)


def phone(rng: Rng) -> Shape:
    """A mobile phone in a coloured case, screen down."""
    x, y = within(rng, 0.140, 0.160), within(rng, 0.068, 0.078)
    lens = [cylinder(0.006, 0.002, slices=12).moved(x * 0.42, y * 0.30 - 0.017 * k, 0.009) for k in range(2)]
    plate = box(0.020, 0.040, 0.0015, soft=0.0005).moved(x * 0.42, y * 0.18, 0.009)
    parts = [Part(box(x, y, 0.009, soft=0.003)), Part(plate, "dark", "camera"), *(Part(m, "glass") for m in lens)]
    return shape(parts)


def remote(rng: Rng) -> Shape:
    """A remote control with rows of pale buttons; its far end is its front."""
    x, y, h = within(rng, 0.15, 0.19), within(rng, 0.042, 0.052), within(rng, 0.016, 0.022)
    keys = [
        cylinder(0.0042, 0.002, slices=10).moved(x * (0.22 - 0.11 * row), (k - 1) * y * 0.28, h - 0.0005)
        for row in range(5)
        for k in range(3)
    ]
    power = cylinder(0.006, 0.002, slices=12).moved(x * 0.38, 0, h - 0.0005)
    return shape([Part(box(x, y, h, soft=0.005)), *(Part(k, "pale") for k in keys), Part(power, "beak")], front=AHEAD)


def mouse(rng: Rng) -> Shape:
    """A computer mouse with a wheel; the buttons are in front."""
    x, y, h = within(rng, 0.050, 0.058), within(rng, 0.029, 0.034), within(rng, 0.030, 0.036)
    scale = [1.0, 1.03, 0.98, 0.86, 0.62, 0.28]
    body = loft(
        [oval(x * k, y * k, power=2.5) - np.array([x * 0.12 * (1 - k), 0]) for k in scale],
        h * np.array([0, 0.2, 0.5, 0.75, 0.93, 1.0]),
    )
    wheel = cylinder(0.009, 0.008, slices=14).turned("x", 90).moved(x * 0.42, 0.004, h * 0.86)
    seam = box(x * 0.8, 0.002, 0.004).moved(x * 0.5, 0, h * 0.80)
    return shape([Part(body), Part(wheel, "dark", "wheel"), Part(seam, "dark")], front=AHEAD)


def keyboard(rng: Rng) -> Shape:
    """A small keyboard: keys in rows, the far edge at +y."""
    x, y, h = within(rng, 0.24, 0.28), within(rng, 0.095, 0.115), 0.012
    rows, columns = 4, 11
    pitch_x, pitch_y = x * 0.95 / columns, y * 0.9 / rows
    keys = [
        box(pitch_x * 0.8, pitch_y * 0.8, 0.005).moved((c - (columns - 1) / 2) * pitch_x, (r - 1.5) * pitch_y, h)
        for r in range(rows)
        for c in range(columns)
        if r or not 3 <= c <= 7
    ]
    space = box(pitch_x * 4.8, pitch_y * 0.8, 0.005).moved(0, -1.5 * pitch_y, h)
    return shape([Part(box(x, y, h, soft=0.002)), *(Part(k, "light") for k in keys), Part(space, "light")])


def camera(rng: Rng) -> Shape:
    """A compact camera; the lens is its front."""
    y, h, x = within(rng, 0.10, 0.12), within(rng, 0.062, 0.072), within(rng, 0.036, 0.046)
    lens = [lathe([(0.024, 0), (0.024, 0.026), (0.020, 0.028), (0.018, 0.022)]), cylinder(0.018, 0.020)]
    turned = [m.turned("y", 90).moved(x / 2, 0, h * 0.46) for m in lens]
    knob = cylinder(0.009, 0.006).moved(0, -y * 0.34, h)
    parts = [
        Part(box(x, y, h, soft=0.005)),
        Part(turned[0], "dark", "lens"),
        Part(turned[1], "glass"),
        Part(knob, "metal"),
    ]
    return shape([*parts, Part(box(x * 0.5, y * 0.26, 0.012, soft=0.003).moved(0, 0, h))], front=AHEAD)


def flower_pot(rng: Rng) -> Shape:
    """A pot with a small plant."""
    r, h = within(rng, 0.045, 0.058), within(rng, 0.075, 0.095)
    outside = [(r * 0.68, 0.0), (r * 0.9, h * 0.8), (r * 1.02, h * 0.8), (r * 1.02, h)]
    leaves = [
        _leaf(within(rng, 0.045, 0.065), 360 * k / 6 + within(rng, -15, 15), within(rng, 35, 75)).moved(z=h * 0.85)
        for k in range(6)
    ]
    parts = [Part(vessel(outside, 0.005, h * 0.6)), Part(cylinder(r * 0.86, 0.006).moved(z=h * 0.84), "soil")]
    return shape([*parts, *(Part(leaf, "leaf", "plant") for leaf in leaves)])


def sponge(rng: Rng) -> Shape:
    """A kitchen sponge with a scouring side on top."""
    x, y, h = within(rng, 0.095, 0.115), within(rng, 0.062, 0.074), within(rng, 0.026, 0.034)
    pad = box(x, y, h * 0.22, soft=0.002).moved(z=h * 0.78)
    return shape([Part(box(x, y, h * 0.8, soft=0.004)), Part(pad, "inner")], on_box(x / 2 - 0.005, y / 2 - 0.005, h))


def soap(rng: Rng) -> Shape:
    """A bar of soap."""
    x, y, h = within(rng, 0.040, 0.048), within(rng, 0.026, 0.031), within(rng, 0.024, 0.030)
    body = loft(
        [oval(x * k, y * k, power=3.2) for k in (0.82, 0.97, 1.0, 0.97, 0.82)], h * np.array([0, 0.18, 0.5, 0.82, 1])
    )
    print_ = prism(oval(x * 0.5, y * 0.42), 0.0006).moved(z=h)
    return shape([Part(body), Part(print_, "light")])


def toothbrush(rng: Rng) -> Shape:
    """A toothbrush; bristles at +x."""
    length = within(rng, 0.17, 0.20)
    grip = tube(
        line((-length / 2, 0, 0.006), (length * 0.12, 0, 0.006), 5), [0.0055, 0.0075, 0.0075, 0.006, 0.0048], flat=0.75
    )
    neck = tube(line((length * 0.10, 0, 0.006), (length / 2, 0, 0.006)), [0.0045, 0.006], flat=0.5)
    bristles = box(0.028, 0.011, 0.013).moved(length / 2 - 0.015, 0, 0.007)
    return shape([Part(grip, "body", "handle"), Part(neck), Part(bristles, "pale", "bristles")])


def shoe(rng: Rng) -> Shape:
    """A low shoe; the toe is its front."""
    length, w = within(rng, 0.20, 0.25), within(rng, 0.034, 0.040)
    sole = prism(_sole(length, w, 1.03), 0.014)
    h = length * 0.30
    cuts = [
        (1.0, 0.0, 0.012),
        (0.98, -0.01, h * 0.35),
        (0.80, -0.10, h * 0.62),
        (0.56, -0.20, h * 0.85),
        (0.50, -0.22, h),
    ]
    upper = loft(
        [_sole(length * k, w * (0.45 + 0.55 * k), 1.0) + np.array([length * shift, 0]) for k, shift, _ in cuts],
        [z for *_, z in cuts],
    )
    opening = prism(oval(length * 0.19, w * 0.55), 0.001).moved(-length * 0.22, 0, h)
    laces = [box(0.006, w * 1.1, 0.004).moved(length * (0.02 + 0.06 * k), 0, h * (0.80 - 0.13 * k)) for k in range(3)]
    parts = [
        Part(upper),
        Part(sole, "pale", "sole"),
        Part(opening, "dark", "opening"),
        *(Part(m, "pale", "laces") for m in laces),
    ]
    return shape(parts, front=AHEAD)


def hat(rng: Rng) -> Shape:
    """A brimmed hat with a band."""
    r, h = within(rng, 0.085, 0.105), within(rng, 0.060, 0.080)
    crown = lathe([(r, 0.0), (r, 0.005), (r * 0.58, 0.010), (r * 0.52, h * 0.8), (r * 0.4, h), (r * 0.08, h * 0.97)])
    band = cylinder(r * 0.58, h * 0.24).moved(z=0.010)
    return shape([Part(crown), Part(band, str(rng.choice(["dark", "pale"])), "band")])


def calculator(rng: Rng) -> Shape:
    """A pocket calculator; display at the +x end."""
    x, y, h = within(rng, 0.12, 0.145), within(rng, 0.070, 0.082), 0.014
    screen = box(x * 0.18, y * 0.8, 0.002).moved(x * 0.33, 0, h - 0.0008)
    keys = [
        box(x * 0.1, y * 0.16, 0.003).moved(x * (0.12 - 0.15 * r), (c - 1.5) * y * 0.22, h - 0.0005)
        for r in range(4)
        for c in range(4)
    ]
    return shape([Part(box(x, y, h, soft=0.003)), Part(screen, "glass", "display"), *(Part(k, "pale") for k in keys)])


def paper_roll(rng: Rng) -> Shape:
    """A toilet roll standing on its end."""
    r, h = within(rng, 0.046, 0.054), within(rng, 0.090, 0.102)
    hole = r * within(rng, 0.36, 0.44)
    body = lathe([(hole, 0.0), (r, 0.0), (r, h), (hole, h)], loop=True)
    return shape([Part(body), Part(cylinder(hole, 0.001).moved(z=h * 0.45), "dark")])


def bucket(rng: Rng) -> Shape:
    """A toy bucket with its bail down on one side."""
    r, h = within(rng, 0.058, 0.072), within(rng, 0.095, 0.120)
    outside = [(r * 0.74, 0.0), (r, h)]
    bail = tube(
        arc(r * 1.02, 10, 170, plane="xy") @ np.array([[1, 0, 0], [0, 0.55, 0.4], [0, 0, 1]])
        + np.array([0, 0, h * 0.96]),
        0.003,
    )
    rim = torus(r, 0.003).moved(z=h)
    floor = cylinder(r * 0.7, 0.001).moved(z=0.005)
    parts = [
        Part(vessel(outside, 0.004, 0.005)),
        Part(floor, "inner"),
        Part(rim, "light"),
        Part(bail, "metal", "handle"),
    ]
    return shape(parts, inside(r * 0.68, 0.006))


def _square(x: float, y: float) -> np.ndarray:
    return np.array([[-x, -y], [x, -y], [x, y], [-x, y]]) / 2


def _sole(length: float, w: float, grow: float) -> np.ndarray:
    outline = oval(length / 2, w, points=20, power=2.6) * grow
    waist = 1 - 0.16 * np.exp(-(((outline[:, 0] + 0.08 * length) / (0.16 * length)) ** 2))
    outline[:, 1] *= waist
    return outline


def _leaf(length: float, yaw_deg: float, rise_deg: float) -> Mesh:
    leaf = ellipsoid(length / 2, length * 0.2, 0.0022, slices=8, stacks=6).moved(x=length / 2)
    return leaf.turned("y", -rise_deg).turned("z", yaw_deg)
