"""Everything in view that nobody refers to: table, floor, walls, clutter off the table, lights.

Positions are world metres, z up, floor at 0. Drawing is in render.py; the table top is the one piece that the
scene graph knows.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.simulator.meshes import rotation
from train.spatial.scene_graph import TableTop

F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]
Rng = np.random.Generator

TEXTURE_PX = 128
TABLE_THICKNESS_M = 0.03
# Held-out scenes lie on surfaces no training scene has.
TRAIN_TEXTURES = ("plain", "oak", "ash", "marble", "granite", "linen", "tiles", "plaster")
HELD_OUT_TEXTURES = ("pine", "slate", "canvas")


@dataclass(frozen=True, eq=False)
class Solid:
    """A box, ball or cylinder that is only looked at."""

    form: str  # "box", "sphere" or "cylinder"
    centre_m: F64  # [3]
    rotation: F64  # [3, 3] world from solid
    half_m: F64  # [3]
    rgb: F64  # [3]
    texture: str | None = None
    repeat_per_m: float = 1.0


@dataclass(frozen=True, eq=False)
class Light:
    """A directional light."""

    position_m: F64  # [3]; shadows are cast from here
    direction: F64  # [3] unit, where it shines
    strength: float  # diffuse, 0..1
    warmth: float  # -1 bluish .. 1 yellowish
    shadow: bool


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A room with a table."""

    table: TableTop
    table_solid: Solid
    solids: tuple[Solid, ...]
    lights: tuple[Light, ...]
    ambient: float
    headlight: float


def draw_surroundings(rng: Rng, *, held_out: bool = False) -> Surroundings:
    """Draw a room."""
    height = rng.uniform(0.68, 0.80)
    size = rng.uniform([0.85, 0.60], [1.45, 0.95])
    table = TableTop(np.array([0.0, 0.0, height]), float(rng.uniform(-math.pi, math.pi)), size)
    textures = HELD_OUT_TEXTURES if held_out else TRAIN_TEXTURES
    slab = Solid(
        "box",
        np.array([0, 0, height - TABLE_THICKNESS_M / 2]),
        rotation("z", math.degrees(table.yaw_rad)),
        np.array([size[0], size[1], TABLE_THICKNESS_M]) / 2,
        _surface_rgb(rng),
        str(textures[rng.integers(len(textures))]),
        float(rng.uniform(1.0, 3.0)),
    )
    room = [*_legs(slab), *_floor_and_walls(rng, textures), *_clutter(rng, size)]
    lights, ambient, headlight = _lights(rng, height)
    return Surroundings(table, slab, tuple(room), lights, ambient, headlight)


def _surface_rgb(rng: Rng) -> F64:
    """Woods, stones and painted boards; pale or dark, never a loud colour."""
    kind = rng.random()
    level = rng.uniform(0.28, 0.90)
    if kind < 0.5:
        tint = np.array([1.0, rng.uniform(0.72, 0.86), rng.uniform(0.46, 0.70)])
    elif kind < 0.8:
        tint = 1 + rng.uniform(-0.04, 0.04, 3)
    else:
        tint = 1 - rng.uniform(0.0, 0.30, 3)
    return np.clip(level * tint, 0.08, 0.95)


def _legs(slab: Solid) -> list[Solid]:
    length = slab.centre_m[2] - slab.half_m[2]
    inset = slab.half_m[:2] - 0.05
    places = [slab.rotation @ np.array([x * inset[0], y * inset[1], 0]) for x in (-1, 1) for y in (-1, 1)]
    half = np.array([0.025, 0.025, length / 2])
    return [Solid("box", place + np.array([0, 0, length / 2]), slab.rotation, half, slab.rgb * 0.8) for place in places]


def _floor_and_walls(rng: Rng, textures: tuple[str, ...]) -> list[Solid]:
    floor_rgb, wall_rgb = _surface_rgb(rng), np.clip(rng.uniform(0.45, 0.9) + rng.uniform(-0.08, 0.08, 3), 0, 1)
    texture = str(textures[rng.integers(len(textures))])
    floor = Solid(
        "box", np.array([0, 0, -0.05]), np.eye(3), np.array([4.0, 4.0, 0.05]), floor_rgb, texture, rng.uniform(0.7, 1.6)
    )
    away = rng.uniform(1.2, 3.0, 4)
    walls = []
    for k in range(4):
        turn = rotation("z", 90.0 * k)
        half = np.array([0.05, 4.0, 1.4])
        walls.append(
            Solid("box", turn @ np.array([away[k] + 0.05, 0, 0]) + np.array([0, 0, 1.4]), turn, half, wall_rgb)
        )
    return [floor, *walls]


def _clutter(rng: Rng, table_size: F64) -> list[Solid]:
    """Boxes, balls and bins on the floor around the table."""
    things = []
    for _ in range(int(rng.integers(3, 12))):
        angle, away = rng.uniform(0, 2 * math.pi), math.hypot(*table_size) / 2 + rng.uniform(0.15, 1.2)
        half = rng.uniform(0.04, 0.28, 3)
        form = str(rng.choice(["box", "box", "cylinder", "sphere"]))
        if form == "sphere":
            half = np.full(3, min(half[0], 0.16))
        centre = np.array([away * math.cos(angle), away * math.sin(angle), half[2]])
        rgb = np.clip(rng.uniform(0.1, 0.85) + rng.uniform(-0.3, 0.3, 3), 0.05, 0.95)
        things.append(Solid(form, centre, rotation("z", rng.uniform(0, 360)), half, rgb))
    return things


def _lights(rng: Rng, table_z: float) -> tuple[tuple[Light, ...], float, float]:
    """One main light above, often a weaker second one; total near 1 on a level white surface."""
    main = rng.uniform(0.40, 0.58)
    lights = [_light(rng, table_z, main, shadow=True)]
    if rng.random() < 0.6:
        lights.append(_light(rng, table_z, rng.uniform(0.08, 0.20), shadow=False))
    return tuple(lights), float(rng.uniform(0.36, 0.46)), float(rng.uniform(0.12, 0.24))


def _light(rng: Rng, table_z: float, strength: float, *, shadow: bool) -> Light:
    angle, slant = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(8, 50))
    up = np.array([math.sin(slant) * math.cos(angle), math.sin(slant) * math.sin(angle), math.cos(slant)])
    return Light(np.array([0, 0, table_z]) + 1.6 * up, -up, float(strength), float(rng.uniform(-1, 1)), shadow)


# --- textures ---------------------------------------------------------------------------------------------


def textures() -> Mapping[str, U8]:
    """Grey patterns [T, T, 3] that a surface's paint is multiplied with; the same in every run."""
    makers = {
        "plain": lambda _: np.ones((TEXTURE_PX, TEXTURE_PX)),
        "oak": lambda rng: _wood(rng, 5, 0.30),
        "ash": lambda rng: _wood(rng, 9, 0.18),
        "pine": lambda rng: _wood(rng, 7, 0.24),
        "marble": lambda rng: 1 - 0.30 * _veins(rng, 2.2),
        "slate": lambda rng: 1 - 0.35 * _veins(rng, 1.2),
        "granite": lambda rng: 1 - 0.38 * rng.random((TEXTURE_PX, TEXTURE_PX)),
        "linen": lambda rng: _weave(rng, 4, 0.24),
        "canvas": lambda rng: _weave(rng, 8, 0.30),
        "tiles": lambda rng: _tiles(rng, 4),
        "plaster": lambda rng: 0.86 + 0.14 * _clouds(rng),
    }
    grey = {name: make(np.random.default_rng(31 + k)) for k, (name, make) in enumerate(makers.items())}
    return {
        name: np.repeat((np.clip(g, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2) for name, g in grey.items()
    }


def _clouds(rng: Rng, falloff: float = 1.6) -> F64:
    """Periodic noise in 0..1 with a power-law spectrum."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(TEXTURE_PX), np.fft.fftfreq(TEXTURE_PX)))
    frequency[0, 0] = 1.0
    spectrum = np.fft.fft2(rng.normal(size=(TEXTURE_PX, TEXTURE_PX))) / frequency**falloff
    spectrum[0, 0] = 0.0
    noise = np.fft.ifft2(spectrum).real
    return np.asarray((noise - noise.min()) / np.ptp(noise))


def _wood(rng: Rng, rings: int, depth: float) -> F64:
    y = np.arange(TEXTURE_PX)[:, None] / TEXTURE_PX
    bend = np.repeat(_clouds(rng, 2.0)[:1], TEXTURE_PX, axis=0) * 0.06 + 0.10 * _clouds(rng, 2.2)
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * rings * (y + bend))
    fibre = np.repeat(rng.random((TEXTURE_PX, 1)), TEXTURE_PX, axis=1)
    return np.asarray(1 - depth * (0.7 * grain + 0.3 * fibre))


def _veins(rng: Rng, falloff: float) -> F64:
    return np.asarray(np.exp(-(((_clouds(rng, falloff) - 0.5) / 0.06) ** 2)) * 0.8 + 0.2 * _clouds(rng))


def _weave(rng: Rng, pitch: int, depth: float) -> F64:
    i, j = np.meshgrid(np.arange(TEXTURE_PX), np.arange(TEXTURE_PX), indexing="ij")
    over = ((i // pitch + j // pitch) % 2).astype(np.float64)
    return np.asarray(1 - depth * over * (0.8 + 0.2 * rng.random((TEXTURE_PX, TEXTURE_PX))))


def _tiles(rng: Rng, count: int) -> F64:
    pitch = TEXTURE_PX // count
    tone = np.kron(rng.uniform(0.86, 1.0, (count, count)), np.ones((pitch, pitch)))
    i, j = np.meshgrid(np.arange(TEXTURE_PX), np.arange(TEXTURE_PX), indexing="ij")
    joint = (i % pitch < 2) | (j % pitch < 2)
    return np.where(joint, 0.62, tone)
