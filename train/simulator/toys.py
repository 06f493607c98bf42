"""Builders of toys."""

import numpy as np

from train.simulator.meshes import arc, box, cylinder, ellipsoid, lathe, loft, oval, prism, tube
from train.simulator.shapes import AHEAD, Part, Rng, Shape, line, on_box, shape, within


def cube(rng: Rng) -> Shape:
    """A plain toy cube."""
    a = within(rng, 0.045, 0.070)
    return shape([Part(box(a, a, a, soft=0.002))], on_box(a / 2 - 0.003, a / 2 - 0.003, a))


def ball(rng: Rng) -> Shape:
    """A ball with a pale stripe."""
    r = within(rng, 0.030, 0.046)
    parts = [Part(ellipsoid(r, r, r, slices=20, stacks=14).moved(z=r))]
    if rng.random() < 0.5:
        parts.append(
            Part(cylinder(r * 1.003, r * 0.18, slices=20).moved(z=-r * 0.09).turned("x", 35).moved(z=r), "pale")
        )
    return shape(parts)


def die(rng: Rng) -> Shape:
    """A large die with dark or pale spots on its six faces."""
    a = within(rng, 0.034, 0.046)
    spots: dict[str, list[tuple[int, int]]] = {"x": [(0, 0)], "y": [(-1, -1), (1, 1)], "z": [(-1, -1), (0, 0), (1, 1)]}
    disc = cylinder(a * 0.10, 0.0008, slices=10).moved(z=a / 2)
    turns = {"x": ("y", 90), "y": ("x", -90), "z": ("z", 0)}
    parts = [Part(box(a, a, a, soft=a * 0.08).moved(z=-a / 2))]
    for axis, places in spots.items():
        name, angle = turns[axis]
        for u, v in places:
            spot = disc.moved(u * a * 0.25, v * a * 0.25)
            parts.append(Part(spot.turned(name, angle), "pale"))
            parts.append(Part(spot.moved(a * 0.1 * (u == 0)).turned(name, angle + (180 if name != "z" else 0)), "pale"))
    return shape([Part(p.mesh.moved(z=a / 2), p.finish) for p in parts])


def toy_car(rng: Rng) -> Shape:
    """A toy car; it drives forward."""
    length, w = within(rng, 0.10, 0.13), within(rng, 0.048, 0.058)
    r = length * 0.11
    body = box(length, w, length * 0.17, soft=0.006).moved(z=r * 0.7)
    cabin = loft(
        [oval(length * 0.29, w * 0.46, power=5), oval(length * 0.20, w * 0.38, power=5)],
        [r * 0.7 + length * 0.16, r * 0.7 + length * 0.32],
    )
    glass = loft(
        [oval(length * 0.275, w * 0.47, power=5), oval(length * 0.225, w * 0.41, power=5)],
        [r * 0.7 + length * 0.19, r * 0.7 + length * 0.28],
    )
    wheel = cylinder(r, w * 0.22, slices=14).turned("x", 90)
    wheels = [wheel.moved(x * length * 0.3, y * w * 0.44 + w * 0.11, r) for x in (-1, 1) for y in (-1, 1)]
    lights = [ellipsoid(0.003, 0.006, 0.005).moved(length / 2, y * w * 0.32, r * 0.7 + length * 0.09) for y in (-1, 1)]
    parts = [Part(body), Part(cabin), Part(glass, "glass"), *(Part(m, "dark", "wheels") for m in wheels)]
    return shape([*parts, *(Part(m, "flame") for m in lights)], front=AHEAD)


def toy_plane(rng: Rng) -> Shape:
    """A toy aeroplane; its nose is in front."""
    length = within(rng, 0.13, 0.16)
    r = length * 0.1
    hull = tube(
        line((length / 2, 0, r * 1.3), (-length / 2, 0, r * 1.5), 6),
        r * np.array([0.35, 0.9, 1, 0.95, 0.7, 0.35]),
        slices=12,
    )
    wing = prism(oval(length * 0.12, length * 0.5, power=3.5), 0.005).moved(length * 0.05, 0, r * 0.9)
    tail = prism(oval(length * 0.07, length * 0.2, power=3.5), 0.004).moved(-length * 0.42, 0, r * 1.5)
    fin = box(length * 0.14, 0.004, length * 0.17, soft=0.001).moved(-length * 0.42, 0, r * 1.5)
    hub = ellipsoid(0.007, 0.007, 0.007).moved(length / 2, 0, r * 1.3)
    blades = box(0.003, length * 0.22, 0.008).moved(length / 2 + 0.003, 0, r * 1.3 - 0.004)
    wheels = [cylinder(r * 0.4, 0.006, slices=12).turned("x", 90).moved(length * 0.12, y * r, r * 0.3) for y in (-1, 1)]
    parts = [
        Part(hull),
        Part(wing, "light", "wing"),
        Part(tail, "light", "tail"),
        Part(fin),
        Part(hub, "dark"),
        Part(blades, "dark"),
    ]
    return shape([*parts, *(Part(m, "dark") for m in wheels)], front=AHEAD)


def duck(rng: Rng) -> Shape:
    """A bath duck; it looks forward."""
    r = within(rng, 0.034, 0.044)
    body = lathe(
        [(r * 0.75, 0), (r * 1.0, r * 0.3), (r * 1.02, r * 0.7), (r * 0.7, r * 1.15), (r * 0.1, r * 1.3)]
    ).scaled(1.25, 0.95, 1)
    tail = tube(line((-r * 0.9, 0, r * 0.8), (-r * 1.5, 0, r * 1.25)), [r * 0.4, r * 0.08])
    head = ellipsoid(r * 0.62, r * 0.58, r * 0.6).moved(r * 0.55, 0, r * 1.65)
    beak = ellipsoid(r * 0.34, r * 0.26, r * 0.12).moved(r * 1.15, 0, r * 1.55)
    eyes = [ellipsoid(r * 0.09, r * 0.09, r * 0.11).moved(r * 0.95, y * r * 0.34, r * 1.85) for y in (-1, 1)]
    parts = [Part(body), Part(tail, "body", "tail"), Part(head, "body", "head"), Part(beak, "beak", "beak")]
    return shape([*parts, *(Part(eye, "dark") for eye in eyes)], front=AHEAD)


def teddy_bear(rng: Rng) -> Shape:
    """A sitting teddy bear; it looks forward."""
    r = within(rng, 0.036, 0.046)
    soft = [
        ellipsoid(r, r * 1.05, r * 1.15).moved(z=r * 1.1),
        ellipsoid(r * 0.75, r * 0.8, r * 0.72).moved(r * 0.1, 0, r * 2.75),
    ]
    for y in (-1, 1):
        soft.append(ellipsoid(r * 0.75, r * 0.36, r * 0.36).moved(r * 0.95, y * r * 0.7, r * 0.36))
        soft.append(ellipsoid(r * 0.3, r * 0.3, r * 0.65).turned("x", y * 35).moved(r * 0.25, y * r * 1.15, r * 1.45))
        soft.append(ellipsoid(r * 0.16, r * 0.28, r * 0.28).moved(0, y * r * 0.6, r * 3.35))
    muzzle = ellipsoid(r * 0.3, r * 0.36, r * 0.28).moved(r * 0.72, 0, r * 2.6)
    dots = [
        (r * 1.0, 0.0, r * 2.7, r * 0.1),
        (r * 0.72, r * 0.27, r * 2.98, r * 0.09),
        (r * 0.72, -r * 0.27, r * 2.98, r * 0.09),
    ]
    parts = [Part(m) for m in soft] + [Part(muzzle, "crust")]
    return shape(
        [*parts, *(Part(ellipsoid(s, s, s, slices=8, stacks=6).moved(x, y, z), "dark") for x, y, z, s in dots)],
        front=AHEAD,
    )


def toy_boat(rng: Rng) -> Shape:
    """A toy sailing boat; its bow is in front."""
    length, w = within(rng, 0.12, 0.15), within(rng, 0.024, 0.030)
    deck = _hull_outline(length / 2, w)
    hull = loft([deck * 0.68, deck * 0.9, deck], [0, 0.014, 0.032])
    mast = tube(line((0, 0, 0.03), (0, 0, length * 0.95)), 0.003, slices=6)
    sail = prism(np.array([[-0.004, 0.036], [-length * 0.36, 0.042], [-0.004, length * 0.92]]), 0.002).turned("x", 90)
    plank = prism(deck * 0.86, 0.001).moved(z=0.032)
    return shape(
        [Part(hull), Part(plank, "wood"), Part(mast, "wood", "mast"), Part(sail, "light", "sail")], front=AHEAD
    )


def cone(rng: Rng) -> Shape:
    """A small traffic cone with a pale band."""
    r, h = within(rng, 0.030, 0.038), within(rng, 0.085, 0.110)
    base = box(r * 2.5, r * 2.5, 0.008, soft=0.002)
    body = cylinder(r, h, top=r * 0.16).moved(z=0.007)
    band = cylinder(r * 0.76, h * 0.2, top=r * 0.60).moved(z=0.007 + h * 0.30)
    return shape([Part(base), Part(body), Part(band, "pale")])


def bell(rng: Rng) -> Shape:
    """A hand bell with a wooden handle."""
    r, h = within(rng, 0.034, 0.042), within(rng, 0.050, 0.060)
    dome = lathe([(r, 0.0), (r * 0.8, h * 0.35), (r * 0.62, h * 0.8), (r * 0.3, h), (r * 0.08, h * 1.02)])
    grip = lathe([(r * 0.16, h), (r * 0.26, h * 1.4), (r * 0.24, h * 1.8), (r * 0.08, h * 1.95)], slices=12)
    return shape([Part(dome), Part(grip, "wood", "handle")])


def rocket(rng: Rng) -> Shape:
    """A toy rocket standing on three fins."""
    r, h = within(rng, 0.024, 0.030), within(rng, 0.12, 0.16)
    hull = lathe([(r * 0.7, h * 0.1), (r, h * 0.3), (r, h * 0.6), (r * 0.65, h * 0.82)])
    nose = lathe([(r * 0.67, h * 0.81), (r * 0.4, h * 0.92), (r * 0.05, h)])
    outline = np.array([[r * 0.6, h * 0.36], [r * 1.9, 0.0], [r * 1.2, 0.0], [r * 0.6, h * 0.12]])
    fin = prism(outline, 0.005).turned("x", 90).moved(y=0.0025)
    window = ellipsoid(r * 0.2, r * 0.36, r * 0.36).moved(r * 0.86, 0, h * 0.55)
    parts = [Part(hull), Part(nose, "pale", "nose"), Part(window, "glass", "window")]
    return shape([*parts, *(Part(fin.turned("z", a), "light", "fins") for a in (60, 180, 300))], front=AHEAD)


def drum(rng: Rng) -> Shape:
    """A toy drum with a pale skin."""
    r, h = within(rng, 0.042, 0.054), within(rng, 0.055, 0.070)
    hoops = [cylinder(r * 1.05, 0.008).moved(z=z) for z in (0.0, h - 0.008)]
    skin_ = cylinder(r * 0.98, 0.001).moved(z=h)
    return shape(
        [Part(cylinder(r, h)), *(Part(m, "light") for m in hoops), Part(skin_, "pale")],
        on_box(r * 0.6, r * 0.6, h + 0.001),
    )


def magnet(rng: Rng) -> Shape:
    """A U-shaped magnet lying flat, tips at +x."""
    r, thick = within(rng, 0.032, 0.040), within(rng, 0.009, 0.012)
    bow = tube(arc(r, 70, 290, plane="xy", points=13) + np.array([0, 0, thick]), thick, slices=8)
    tips = [box(0.022, thick * 2, thick * 2).moved(r * 0.34 + 0.010, y * r * 0.94, 0) for y in (-1, 1)]
    return shape([Part(bow), *(Part(tip, "metal", "tips") for tip in tips)])


def _hull_outline(half: float, w: float) -> np.ndarray:
    outline = oval(half, w, points=20)
    pinch = 1 - 0.55 * np.clip(outline[:, 0] / half, 0, 1) ** 2
    outline[:, 1] *= pinch
    return outline
