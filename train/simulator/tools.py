"""Builders of hand tools and stationery."""

import numpy as np

from train.simulator.meshes import arc, box, cylinder, lathe, prism, torus, tube
from train.simulator.shapes import AHEAD, Part, Rng, Shape, line, on_box, shape, within


def hammer(rng: Rng) -> Shape:
    """A claw hammer lying on its side: head at +x."""
    length = within(rng, 0.20, 0.25)
    head = cylinder(0.013, 0.062, slices=12).turned("x", 90).moved(length / 2, 0.028, 0.013)
    claw = tube(
        arc(0.045, 0, 60, plane="xy") + np.array([length / 2 - 0.045, 0.026, 0.013]),
        np.linspace(0.011, 0.004, 9),
        flat=0.9,
    )
    handle = tube(line((length / 2, 0, 0.013), (-length / 2, 0, 0.014), 4), [0.009, 0.0105, 0.013, 0.014], flat=0.85)
    return shape([Part(handle, "body", "handle"), Part(head, "dark", "head"), Part(claw, "dark")])


def screwdriver(rng: Rng) -> Shape:
    """A screwdriver lying: tip at +x, coloured grip."""
    grip, r = within(rng, 0.085, 0.105), within(rng, 0.013, 0.017)
    shaft = within(rng, 0.075, 0.105)
    profile = [(r * 0.6, 0.0), (r, grip * 0.12), (r * 0.95, grip * 0.6), (r * 0.62, grip * 0.8), (r * 0.75, grip)]
    handle = lathe(profile, slices=10).turned("y", 90).moved(-grip, 0, r)
    rod = tube(line((-0.005, 0, r), (shaft, 0, r)), 0.0036)
    return shape([Part(handle, "body", "handle"), Part(rod, "metal", "tip")])


def wrench(rng: Rng) -> Shape:
    """An open-ended wrench lying flat: jaw at +x."""
    length, w = within(rng, 0.16, 0.20), within(rng, 0.011, 0.014)
    jaw = tube(
        arc(w * 1.25, 40, 320, plane="xy", points=13) + np.array([length / 2, 0, 0.005]), w * 0.6, slices=6, flat=0.7
    )
    ring = torus(w * 1.05, w * 0.5, slices=16).scaled(1, 1, 0.8).moved(-length / 2, 0, 0.005)
    handle = box(length - 2 * w, w * 1.3, 0.008, soft=0.002).moved(z=0.001)
    return shape([Part(handle, "body", "handle"), Part(jaw, "body", "jaw"), Part(ring)])


def scissors(rng: Rng) -> Shape:
    """Scissors, slightly open: blades at +x, coloured rings."""
    length, spread = within(rng, 0.075, 0.095), within(rng, 7, 12)
    parts = []
    for side in (-1, 1):
        outline = np.array([[0, -0.007], [length, side * 0.001], [length, side * 0.002], [0, 0.007]])
        blade = prism(outline, 0.002).moved(z=0.006 + side * 0.0012).turned("z", side * spread)
        shank = tube(line((0, 0, 0.007), (-0.030, -side * 0.012, 0.007)), 0.0062)
        ring = torus(0.019, 0.0065, slices=16).scaled(1.3, 1, 0.95).moved(-0.052, -side * 0.025, 0.007)
        parts += [Part(blade, "metal", "blades"), Part(shank), Part(ring, "body", "handle")]
    return shape([*parts, Part(cylinder(0.005, 0.012, slices=10), "dark")])


def stapler(rng: Rng) -> Shape:
    """A stapler: hinge behind, mouth in front."""
    length, w = within(rng, 0.12, 0.15), within(rng, 0.030, 0.036)
    base = box(length, w, 0.010, soft=0.003)
    arm = box(length * 0.96, w * 0.86, 0.018, soft=0.005).turned("y", -7).moved(0.003, 0, 0.024)
    hinge = box(length * 0.16, w * 0.9, 0.03, soft=0.004).moved(-length * 0.4, 0, 0.006)
    rail = box(length * 0.86, w * 0.4, 0.005).turned("y", -5).moved(0, 0, 0.018)
    return shape([Part(base), Part(arm), Part(hinge), Part(rail, "metal")], front=AHEAD)


def tape(rng: Rng) -> Shape:
    """A roll of adhesive tape lying flat."""
    r, h = within(rng, 0.040, 0.050), within(rng, 0.020, 0.032)
    hole = r * within(rng, 0.58, 0.68)
    roll = lathe([(hole, 0), (r, 0), (r, h), (hole, h)], slices=24, loop=True)
    core = lathe([(hole * 0.93, 0), (hole, 0), (hole, h), (hole * 0.93, h)], slices=24, loop=True)
    return shape([Part(roll), Part(core, "pale")])


def marker(rng: Rng) -> Shape:
    """A felt pen lying with its cap at +x."""
    length, r = within(rng, 0.12, 0.145), within(rng, 0.0085, 0.0105)
    body = cylinder(r, length * 0.66, slices=12).turned("y", 90).moved(-length / 2, 0, r)
    cap = cylinder(r * 1.12, length * 0.34, slices=12, top=r).turned("y", 90).moved(length * 0.16, 0, r)
    band = cylinder(r * 1.02, 0.012, slices=12).turned("y", 90).moved(-length * 0.36, 0, r)
    return shape([Part(body), Part(cap, "body", "cap"), Part(band, "pale")])


def pencil(rng: Rng) -> Shape:
    """A thick pencil lying with its point at +x."""
    length, r = within(rng, 0.16, 0.19), within(rng, 0.0065, 0.0080)
    shaft = cylinder(r, length * 0.86, slices=6).turned("y", 90).moved(-length / 2, 0, r)
    cone = cylinder(r, 0.017, top=r * 0.25, slices=6).turned("y", 90).moved(length * 0.36, 0, r)
    lead = cylinder(r * 0.25, 0.005, top=0.0003, slices=6).turned("y", 90).moved(length * 0.36 + 0.017, 0, r)
    return shape([Part(shaft), Part(cone, "crust", "point"), Part(lead, "dark")])


def eraser(rng: Rng) -> Shape:
    """An eraser in a coloured sleeve."""
    x, y, h = within(rng, 0.050, 0.062), within(rng, 0.026, 0.032), within(rng, 0.014, 0.018)
    sleeve = box(x * 0.72, y, h, soft=0.001).moved(x=-x * 0.14)
    return shape([Part(sleeve), Part(box(x, y * 0.94, h * 0.92, soft=0.003), "pale")], on_box(x * 0.3, y * 0.4, h))


def brick(rng: Rng) -> Shape:
    """A building brick with two rows of studs."""
    pitch, h = within(rng, 0.022, 0.027), within(rng, 0.030, 0.036)
    columns = int(rng.integers(2, 5))
    studs = [
        cylinder(pitch * 0.31, 0.006, slices=12).moved((c - (columns - 1) / 2) * pitch, (r - 0.5) * pitch, h)
        for c in range(columns)
        for r in range(2)
    ]
    return shape([Part(box(columns * pitch, 2 * pitch, h, soft=0.001)), *(Part(s) for s in studs)])


def padlock(rng: Rng) -> Shape:
    """A padlock lying: its shackle at +x."""
    w, h = within(rng, 0.050, 0.060), within(rng, 0.018, 0.023)
    body = box(w * 0.9, w, h, soft=0.004)
    bow = tube(
        arc(w * 0.3, -90, 90, plane="xy", points=11) * np.array([1.3, 1, 1]) + np.array([w * 0.5, 0, h / 2]), 0.0052
    )
    legs = [tube(line((w * 0.35, y * w * 0.3, h / 2), (w * 0.52, y * w * 0.3, h / 2)), 0.0052) for y in (-1, 1)]
    hole = cylinder(0.006, 0.001, slices=12).moved(-w * 0.1, 0, h)
    return shape([Part(body), *(Part(m, "metal", "shackle") for m in (bow, *legs)), Part(hole, "dark")])


def glue(rng: Rng) -> Shape:
    """A glue stick standing, with a pale cap."""
    r, h = within(rng, 0.015, 0.018), within(rng, 0.085, 0.105)
    cap = cylinder(r * 1.06, h * 0.28).moved(z=h * 0.72)
    return shape(
        [Part(cylinder(r, h * 0.75)), Part(cap, "pale", "cap"), Part(cylinder(r * 0.8, 0.006).moved(z=-0.006), "dark")]
    )


def flashlight(rng: Rng) -> Shape:
    """A torch lying; it shines forward."""
    r, length = within(rng, 0.014, 0.017), within(rng, 0.13, 0.16)
    profile = [(r * 0.9, 0), (r, 0.006), (r, length * 0.66), (r * 1.55, length * 0.84), (r * 1.55, length)]
    body = lathe(profile, slices=16).turned("y", 90).moved(-length / 2, 0, r * 1.55)
    lens = cylinder(r * 1.35, 0.002, slices=16).turned("y", 90).moved(length / 2, 0, r * 1.55)
    switch = box(0.014, 0.008, 0.004, soft=0.001).moved(length * 0.02, 0, r * 2.5)
    return shape([Part(body), Part(lens, "flame", "lens"), Part(switch, "dark")], front=AHEAD)
