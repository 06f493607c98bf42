"""The catalogue: every noun, its instances, true colours, sizes, named parts and stable poses.

Everything is our own geometry (shapes.py and the builder files), so nothing is downloaded. Instances are drawn
from seeds of their own: instance i of a noun is the same in every run. Some instances are kept back for testing.
"""

import hashlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from train.simulator import food, household, tableware, tools, toys
from train.simulator.colours import COLOUR_WORDS
from train.simulator.errors import SceneImpossible
from train.simulator.meshes import Mesh, merged
from train.simulator.resting import Rest, rest
from train.simulator.shapes import X_DOWN, Platform, Rng, Shape

F64 = npt.NDArray[np.float64]
Direction = tuple[float, float, float]

TRAIN_INSTANCES = 10
HELD_OUT_INSTANCES = 3
DISTINCT_M = 0.001
REDRAWS = 1000
STANDING: Direction = (0.0, 0.0, -1.0)
TIPPED: Direction = X_DOWN


@dataclass(frozen=True)
class Noun:
    """A kind of thing."""

    name: str
    build: Callable[[Rng], Shape]
    colours: tuple[str, ...] = COLOUR_WORDS
    tips_to: tuple[Direction, ...] = ()  # directions that may point down besides its own -z
    core: bool = True  # in the default set; the others look like one of it or are small


@dataclass(frozen=True, eq=False)
class Asset:
    """One instance of a noun, in an object frame whose origin is the centre of its box."""

    noun: str
    instance: int
    held_out: bool
    groups: tuple[tuple[str, Mesh], ...]  # (finish, surface)
    size_m: F64  # [3]
    parts: Mapping[str, F64]  # name -> [3] unit direction from the centre
    front: F64 | None
    platform: Platform | None
    rests: tuple[Rest, ...]  # the first one is standing

    @property
    def key(self) -> str:
        """Name of the instance, the same in every run."""
        return f"{self.noun}/{self.instance}"

    @property
    def digest(self) -> str:
        """Hash of its geometry, for checks that test data holds nothing of the training data."""
        parts = [mesh.vertices_m.astype(np.float32).tobytes() + mesh.faces.tobytes() for _, mesh in self.groups]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    @property
    def mesh(self) -> Mesh:
        """The whole surface."""
        return merged([mesh for _, mesh in self.groups])


WARES = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black", "gray")
TOOLS = ("red", "orange", "yellow", "green", "blue", "black", "purple", "pink")
CUTLERY = ("gray", "white", "black", "blue", "green", "red")

NOUNS: tuple[Noun, ...] = (
    Noun("mug", tableware.mug, WARES, ((0.0, 1.0, 0.0),)),
    Noun("cup", tableware.cup, WARES, (TIPPED,)),
    Noun("bowl", tableware.bowl, WARES),
    Noun("plate", tableware.plate, WARES),
    Noun("bottle", tableware.bottle, WARES, (TIPPED,)),
    Noun("jar", tableware.jar, ("red", "orange", "yellow", "brown", "green", "purple"), (TIPPED,), core=False),
    Noun("vase", tableware.vase, WARES),
    Noun("teapot", tableware.teapot, WARES),
    Noun("kettle", tableware.kettle, WARES, core=False),
    Noun("pitcher", tableware.pitcher, WARES),
    Noun("pan", tableware.pan, ("black", "gray", "red", "blue", "green", "orange")),
    Noun("pot", tableware.pot, ("gray", "red", "blue", "white", "green", "orange", "black")),
    Noun("tray", tableware.tray, (*WARES, "brown")),
    Noun("basket", tableware.basket, ("brown", "white", "blue", "green", "yellow", "pink", "gray")),
    Noun("spoon", tableware.spoon, CUTLERY, core=False),
    Noun("fork", tableware.fork, CUTLERY, core=False),
    Noun("knife", tableware.knife, TOOLS, core=False),
    Noun("spatula", tableware.spatula, TOOLS),
    Noun("banana", food.banana, ("yellow", "green")),
    Noun("apple", food.apple, ("red", "green", "yellow")),
    Noun("pear", food.pear, ("green", "yellow")),
    Noun("orange", food.orange, ("orange",)),
    Noun("lemon", food.lemon, ("yellow", "green"), core=False),
    Noun("carrot", food.carrot, ("orange", "purple")),
    Noun("egg", food.egg, ("white", "brown"), core=False),
    Noun("donut", food.donut, ("pink", "brown", "white", "yellow", "red")),
    Noun("bread", food.bread, ("brown",)),
    Noun("cheese", food.cheese, ("yellow", "orange")),
    Noun("mushroom", food.mushroom, ("brown", "red", "white"), core=False),
    Noun("cupcake", food.cupcake, ("pink", "brown", "white", "yellow", "purple", "blue")),
    Noun("pepper", food.pepper, ("red", "green", "yellow", "orange"), (TIPPED,)),
    Noun("chocolate", food.chocolate, ("red", "blue", "purple", "green"), core=False),
    Noun("pizza slice", food.pizza, ("red", "yellow"), core=False),
    Noun("book", household.book),
    Noun("can", household.can, WARES, (TIPPED,)),
    Noun("box", household.crate, (*WARES, "brown")),
    Noun("milk carton", household.carton, WARES, (TIPPED,)),
    Noun("candle", household.candle, WARES, (TIPPED,)),
    Noun("lamp", household.lamp, WARES),
    Noun("light bulb", household.light_bulb, ("white", "yellow", "red", "blue", "green")),
    Noun("clock", household.clock, WARES),
    Noun("phone", household.phone, (*WARES, "black")),
    Noun("remote", household.remote, ("black", "gray", "blue", "red")),
    Noun("computer mouse", household.mouse, WARES),
    Noun("keyboard", household.keyboard, ("black", "gray", "pink", "blue"), core=False),
    Noun("camera", household.camera, ("red", "blue", "black", "gray", "pink", "green")),
    Noun("flower pot", household.flower_pot, ("brown", "orange", "white", "blue", "red", "yellow")),
    Noun("sponge", household.sponge, ("yellow", "green", "blue", "pink", "orange", "purple")),
    Noun("soap", household.soap, ("white", "pink", "green", "blue", "yellow", "purple"), core=False),
    Noun("toothbrush", household.toothbrush, TOOLS, core=False),
    Noun("shoe", household.shoe, WARES),
    Noun("hat", household.hat, (*WARES, "brown")),
    Noun("calculator", household.calculator, ("black", "gray", "blue", "pink"), core=False),
    Noun("toilet roll", household.paper_roll, ("white", "pink", "yellow", "blue"), (TIPPED,), core=False),
    Noun("bucket", household.bucket, WARES, core=False),
    Noun("hammer", tools.hammer, TOOLS),
    Noun("screwdriver", tools.screwdriver, TOOLS, core=False),
    Noun("wrench", tools.wrench, ("gray", "red", "blue", "black"), core=False),
    Noun("scissors", tools.scissors, TOOLS),
    Noun("stapler", tools.stapler, WARES),
    Noun("tape", tools.tape, TOOLS, core=False),
    Noun("marker", tools.marker, TOOLS, core=False),
    Noun("pencil", tools.pencil, TOOLS, core=False),
    Noun("eraser", tools.eraser, ("pink", "blue", "green", "red"), core=False),
    Noun("brick", tools.brick, WARES, core=False),
    Noun("padlock", tools.padlock, ("yellow", "red", "blue", "black"), core=False),
    Noun("glue stick", tools.glue, ("yellow", "red", "blue", "green"), (TIPPED,), core=False),
    Noun("flashlight", tools.flashlight, TOOLS, core=False),
    Noun("cube", toys.cube),
    Noun("ball", toys.ball, WARES),
    Noun("die", toys.die, ("red", "blue", "green", "black", "purple"), core=False),
    Noun("toy car", toys.toy_car, WARES),
    Noun("toy plane", toys.toy_plane, WARES),
    Noun("duck", toys.duck, ("yellow", "pink", "blue", "green")),
    Noun("teddy bear", toys.teddy_bear, ("brown", "white", "pink", "gray")),
    Noun("toy boat", toys.toy_boat, ("red", "blue", "green", "yellow", "orange"), core=False),
    Noun("traffic cone", toys.cone, ("orange", "red", "yellow", "green", "blue"), core=False),
    Noun("bell", toys.bell, ("yellow", "gray", "red", "blue"), core=False),
    Noun("rocket", toys.rocket, ("red", "blue", "gray", "green", "orange"), core=False),
    Noun("drum", toys.drum, ("red", "blue", "green", "yellow", "purple"), core=False),
    Noun("magnet", toys.magnet, ("red", "blue"), core=False),
)
BY_NAME: Mapping[str, Noun] = {noun.name: noun for noun in NOUNS}
ALL_NOUNS = tuple(BY_NAME)
CORE_NOUNS = tuple(noun.name for noun in NOUNS if noun.core)


def instances(held_out: bool) -> range:
    """Instance numbers for training, or those kept back for testing."""
    if held_out:
        return range(TRAIN_INSTANCES, TRAIN_INSTANCES + HELD_OUT_INSTANCES)
    return range(TRAIN_INSTANCES)


@cache
def asset(noun: str, instance: int) -> Asset:
    """Build an instance.

    Raises:
        KeyError: no such noun; the message lists the catalogue.
    """
    if noun not in BY_NAME:
        raise KeyError(f"no noun {noun!r} in the catalogue; it has {', '.join(ALL_NOUNS)}")
    shape = _standing(_drawn(noun, instance))
    whole = merged([part.mesh for part in shape.parts])
    origin = whole.centre_m
    centred = Mesh(whole.vertices_m - origin, whole.faces)
    return Asset(
        noun=noun,
        instance=instance,
        held_out=instance >= TRAIN_INSTANCES,
        groups=_groups(shape, origin),
        size_m=centred.vertices_m.max(0) - centred.vertices_m.min(0),
        parts=_part_directions(shape, origin),
        front=None if shape.front is None else np.array(shape.front),
        platform=_about(shape.platform, origin),
        rests=tuple(rest(centred, down) for down in (STANDING, *BY_NAME[noun].tips_to)),
    )


def library(nouns: Sequence[str] = CORE_NOUNS, *, held_out: bool | None = None) -> list[Asset]:
    """All instances of some nouns: those for training, those kept back, or both (None)."""
    sets = (False, True) if held_out is None else (held_out,)
    return [asset(noun, index) for noun in nouns for kept in sets for index in instances(kept)]


def _standing(shape: Shape) -> Shape:
    """The shape turned so that its own z is up when it rests as people put it down."""
    turn = rest(merged([part.mesh for part in shape.parts]), STANDING).rotation
    if np.allclose(turn, np.eye(3), atol=1e-9):
        return shape
    parts = tuple(replace(part, mesh=Mesh(part.mesh.vertices_m @ turn.T, part.mesh.faces)) for part in shape.parts)
    front = None if shape.front is None else _direction(turn @ np.array(shape.front))
    return replace(shape, parts=parts, front=front, platform=None)


def _direction(vector: F64) -> Direction:
    x, y, z = (float(value) for value in vector)
    return x, y, z


@cache
def _drawn(noun: str, instance: int) -> Shape:
    """An instance's shape; one kept back is drawn again until it differs from every training one."""
    known = [] if instance < TRAIN_INSTANCES else [_drawn(noun, index) for index in range(TRAIN_INSTANCES)]
    for attempt in range(REDRAWS):
        shape = BY_NAME[noun].build(np.random.default_rng([zlib.crc32(noun.encode()), instance, attempt]))
        if all(_differ(shape, other) for other in known):
            return shape
    raise SceneImpossible(f"no {noun} that differs from the training ones in {REDRAWS} draws; widen its builder")


def _differ(a: Shape, b: Shape) -> bool:
    va, vb = (merged([part.mesh for part in shape.parts]).vertices_m for shape in (a, b))
    return len(va) != len(vb) or float(np.abs(va - vb).max()) > DISTINCT_M


def _groups(shape: Shape, origin: F64) -> tuple[tuple[str, Mesh], ...]:
    finishes = list(dict.fromkeys(part.finish for part in shape.parts))
    joined = [merged([part.mesh for part in shape.parts if part.finish == finish]) for finish in finishes]
    return tuple((f, Mesh(mesh.vertices_m - origin, mesh.faces)) for f, mesh in zip(finishes, joined, strict=True))


def _part_directions(shape: Shape, origin: F64) -> dict[str, F64]:
    names = list(dict.fromkeys(part.name for part in shape.parts if part.name))
    offsets = {
        name: merged([part.mesh for part in shape.parts if part.name == name]).centre_m - origin for name in names
    }
    # A part in the middle of the thing (a cap's centre line, a band) has no side.
    return {name: offset / np.linalg.norm(offset) for name, offset in offsets.items() if np.linalg.norm(offset) > 4e-3}


def _about(platform: Platform | None, origin: F64) -> Platform | None:
    if platform is None:
        return None
    x, y, z = (float(value) for value in origin)
    return replace(platform, x_m=platform.x_m - x, y_m=platform.y_m - y, z_m=platform.z_m - z)
