"""Builders of things to eat."""

import numpy as np

from train.simulator.meshes import arc, box, cylinder, ellipsoid, lathe, loft, oval, prism, torus, tube
from train.simulator.shapes import AHEAD, Part, Rng, Shape, line, on_box, shape, within


def banana(rng: Rng) -> Shape:
    """A banana on its side."""
    bend, r = within(rng, 0.075, 0.105), within(rng, 0.016, 0.020)
    half = np.degrees(within(rng, 0.085, 0.100) / bend)
    path = arc(bend, 90 - half, 90 + half, plane="xy", points=11) - np.array([0, bend, 0])
    fruit = tube(path, r * np.array([0.3, 0.7, 0.9, 1, 1, 1, 1, 1, 0.9, 0.68, 0.28]), slices=7)
    tip = path[-1] + (path[-1] - path[-2])
    stem = tube(np.stack([path[-1], tip]), r * 0.27, slices=6)
    return shape([Part(fruit), Part(stem, "stem", "stem")])


def apple(rng: Rng) -> Shape:
    """An apple with a dimple and a stem."""
    r = within(rng, 0.036, 0.043)
    h = r * within(rng, 1.65, 1.9)
    profile = [
        (r * 0.35, h * 0.03),
        (r * 0.6, 0),
        (r * 0.88, h * 0.25),
        (r, h * 0.58),
        (r * 0.88, h * 0.87),
        (r * 0.5, h),
        (r * 0.15, h * 0.93),
    ]
    stem = tube(line((0, 0, h * 0.9), (r * 0.15, 0, h * 1.16)), 0.002, slices=5)
    return shape([Part(lathe(profile)), Part(stem, "stem", "stem")])


def pear(rng: Rng) -> Shape:
    """A pear standing on its base."""
    r, h = within(rng, 0.034, 0.040), within(rng, 0.088, 0.105)
    profile = [
        (r * 0.4, 0),
        (r * 0.9, h * 0.16),
        (r, h * 0.32),
        (r * 0.82, h * 0.52),
        (r * 0.5, h * 0.75),
        (r * 0.4, h * 0.92),
        (r * 0.12, h),
    ]
    stem = tube(line((0, 0, h * 0.97), (0.006, 0, h * 1.14)), 0.0022, slices=5)
    return shape([Part(lathe(profile)), Part(stem, "stem", "stem")])


def orange(rng: Rng) -> Shape:
    """An orange."""
    r = within(rng, 0.034, 0.042)
    knob = ellipsoid(0.005, 0.005, 0.003).moved(z=r * 1.9)
    return shape([Part(ellipsoid(r, r, r * 0.96).moved(z=r * 0.96)), Part(knob, "leaf")])


def lemon(rng: Rng) -> Shape:
    """A lemon on its side, pointed at both ends."""
    r, half = within(rng, 0.026, 0.031), within(rng, 0.040, 0.048)
    z = np.linspace(-1, 1, 11)
    body = [(r * max(0.08, (1 - abs(a) ** 2.2) ** 0.6), a * half * 0.88) for a in z]
    profile = [(r * 0.1, -half), (r * 0.22, -half * 0.93), *body[1:-1], (r * 0.22, half * 0.93), (r * 0.1, half)]
    return shape([Part(lathe(profile, slices=16).turned("y", 90).moved(z=r))])


def carrot(rng: Rng) -> Shape:
    """A carrot with its greens, lying."""
    length, r = within(rng, 0.13, 0.17), within(rng, 0.015, 0.019)
    root = tube(
        line((length / 2, 0, r), (-length / 2, 0, r * 0.3), 6), r * np.array([0.7, 1, 0.9, 0.7, 0.45, 0.12]), slices=10
    )
    leaves = [
        tube(line((length / 2, 0, r), (length / 2 + 0.045, y, r)), [0.005, 0.002], slices=5) for y in (-0.016, 0, 0.016)
    ]
    return shape([Part(root), *(Part(leaf, "leaf", "leaves") for leaf in leaves)])


def egg(rng: Rng) -> Shape:
    """An egg on its side."""
    r, slender, taper = within(rng, 0.022, 0.027), within(rng, 1.22, 1.42), within(rng, 0.10, 0.18)
    z = np.linspace(-1, 1, 13)
    profile = [(r * np.sqrt(max(1e-4, 1 - a * a)) * (1 - taper * a), a * r * slender) for a in z]
    return shape([Part(lathe(profile, slices=18).turned("y", 90).moved(z=r))])


def donut(rng: Rng) -> Shape:
    """A glazed ring: coloured icing over a crust."""
    ring, r = within(rng, 0.031, 0.036), within(rng, 0.017, 0.020)
    icing = torus(ring, r * 1.03, slices=20).scaled(1, 1, 0.86).moved(z=r * 1.04)
    crust = torus(ring, r * 1.0, slices=20).scaled(1, 1, 0.9).moved(z=r * 0.9)
    return shape([Part(icing), Part(crust, "crust")])


def bread(rng: Rng) -> Shape:
    """A loaf: flat below, domed above."""
    length, w, h = within(rng, 0.15, 0.19), within(rng, 0.070, 0.085), within(rng, 0.055, 0.070)
    y = np.array([-0.46, 0.46, 0.5, 0.52, 0.42, 0.2, -0.2, -0.42, -0.52, -0.5]) * w
    z = np.array([0, 0, 0.06, 0.62, 0.88, 1, 1, 0.88, 0.62, 0.06]) * h
    rings = [np.stack([y * k, z * k], -1) for k in (0.8, 0.97, 1, 1, 0.97, 0.8)]
    loaf = loft(rings, length * np.array([-0.5, -0.45, -0.36, 0.36, 0.45, 0.5])).turned("x", 90).turned("z", 90)
    cuts = [
        box(0.012, w * 0.5, 0.004, soft=0.0015).turned("z", 30).moved(x * length, 0, h * 0.985)
        for x in (-0.25, 0, 0.25)
    ]
    return shape([Part(loaf), *(Part(cut, "crust") for cut in cuts)])


def cheese(rng: Rng) -> Shape:
    """A wedge of cheese with holes; its tip is in front."""
    r, h, half = within(rng, 0.085, 0.11), within(rng, 0.035, 0.048), within(rng, 20, 27)
    rim = arc(r, 180 - half, 180 + half, plane="xy", points=7)[:, :2] + np.array([r * 0.62, 0])
    outline = np.concatenate([rim, [[r * 0.62, 0.0]]])
    holes = [
        cylinder(s, 0.0007).moved(x * r, y * r, h)
        for x, y, s in ((-0.2, 0.1, 0.008), (-0.1, -0.12, 0.006), (0.14, 0.02, 0.005))
    ]
    return shape([Part(prism(outline, h)), *(Part(hole, "inner") for hole in holes)], front=AHEAD)


def mushroom(rng: Rng) -> Shape:
    """A mushroom with a coloured cap."""
    r, h = within(rng, 0.034, 0.042), within(rng, 0.050, 0.062)
    cap = lathe([(r * 0.3, h * 0.52), (r, h * 0.5), (r * 0.92, h * 0.72), (r * 0.6, h * 0.94), (r * 0.1, h)])
    return shape([Part(cap, "body", "cap"), Part(cylinder(r * 0.5, h * 0.55, top=r * 0.38), "pale")])


def cupcake(rng: Rng) -> Shape:
    """A cupcake: coloured frosting on a paper cup."""
    r, h = within(rng, 0.034, 0.040), within(rng, 0.040, 0.048)
    base = cylinder(r * 0.72, h * 0.7, top=r * 0.95)
    frosting = lathe(
        [
            (r, h * 0.66),
            (r * 1.05, h * 0.85),
            (r * 0.8, h * 1.05),
            (r * 0.82, h * 1.15),
            (r * 0.5, h * 1.35),
            (r * 0.1, h * 1.6),
        ]
    )
    cherry = ellipsoid(0.007, 0.007, 0.007).moved(z=h * 1.68)
    return shape([Part(frosting), Part(base, "inner"), Part(cherry, "pale")])


def pepper(rng: Rng) -> Shape:
    """A bell pepper with four lobes and a stem."""
    r, h = within(rng, 0.034, 0.040), within(rng, 0.070, 0.088)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    lobes = (1 + 0.09 * np.cos(4 * angle))[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    radii = r * np.array([0.4, 0.75, 0.9, 1.0, 0.95, 0.6, 0.2])
    fruit = loft([lobes * k for k in radii], h * np.array([0, 0.05, 0.3, 0.62, 0.86, 0.99, 0.95]))
    stem = tube(line((0, 0, h * 0.94), (0.004, 0, h * 1.2)), [0.006, 0.004], slices=6)
    return shape([Part(fruit), Part(stem, "leaf", "stem")])


def chocolate(rng: Rng) -> Shape:
    """A bar of chocolate half out of its coloured wrapper."""
    length, w, h = within(rng, 0.14, 0.17), within(rng, 0.065, 0.078), within(rng, 0.012, 0.016)
    wrapper = box(length * 0.72, w, h, soft=0.002).moved(x=-length * 0.14)
    bar = [
        box(length * 0.12, w * 0.28, h * 0.85, soft=0.002).moved(length * (0.29 + 0.13 * k), (j - 1) * w * 0.3)
        for k in range(2)
        for j in range(3)
    ]
    return shape([Part(wrapper), *(Part(piece, "soil") for piece in bar)], on_box(length * 0.34, w * 0.45, h))


def pizza(rng: Rng) -> Shape:
    """A slice of pizza: coloured topping, crust at the back, its tip in front."""
    r, half = within(rng, 0.12, 0.15), within(rng, 22, 27)
    rim = arc(r, 180 - half, 180 + half, plane="xy", points=7)[:, :2] + np.array([r * 0.62, 0])
    outline = np.concatenate([rim, [[r * 0.62, 0.0]]])
    top = prism(outline * 0.94, 0.003).moved(z=0.006)
    dough = prism(outline, 0.006)
    crust = tube(np.concatenate([rim, np.full((7, 1), 0.009)], axis=1), 0.009)
    toppings = [
        prism(oval(0.010, 0.010, points=10), 0.001).moved(x * r, y * r, 0.009)
        for x, y in ((-0.15, 0.1), (-0.1, -0.13), (0.15, 0))
    ]
    return shape(
        [Part(top), Part(dough, "crust"), Part(crust, "crust", "crust"), *(Part(t, "pale") for t in toppings)],
        front=AHEAD,
    )
