"""Draws what is on a table: which things, which paint, where, in or on what. Seeded, no rendering.

A scene is meant to be hard to talk about: nouns and colours are repeated on purpose. Everything rests in a stable
pose (resting.py) on the table, on a flat top or on a container's floor (placement.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.simulator.assets import BY_NAME, CORE_NOUNS, Asset, asset, instances, library
from train.simulator.colours import paint
from train.simulator.errors import SceneImpossible
from train.simulator.placement import (
    Footprint,
    Posed,
    apart,
    fits_platform,
    footprint_of,
    may_fit,
    on_table,
    platform_centre_m,
)
from train.simulator.resting import Rest
from train.simulator.scans import SCAN_INSTANCE, SCANS, scan_library, scanned
from train.simulator.shapes import Platform
from train.simulator.surroundings import Surroundings, draw_surroundings
from train.spatial.scene_graph import TABLE, TableTop

F64 = npt.NDArray[np.float64]
Rng = np.random.Generator

# Share of scenes with 3, 4, ... 10 objects.
COUNT_WEIGHTS = {3: 0.05, 4: 0.09, 5: 0.20, 6: 0.22, 7: 0.20, 8: 0.13, 9: 0.07, 10: 0.04}
GAP_M = 0.008
EDGE_MARGIN_M = 0.01
SCALE = (0.86, 1.16)
TRIES_PER_SPOT = 24
TRIES_PER_SCENE = 160
SCAN_SHARE = 0.35  # of a noun's objects that are its scan, where scans are on
HOST_SHARE = 0.3  # objects that first try a place on or in another
FLAT_TOPS = ("book", "box", "book", "sponge", "plate", "cube")
CONTAINERS = ("tray", "bowl", "basket", "pan", "pot", "plate")
CLEARANCE_M = 0.0005  # between a thing and what it stands on: invisible, and nothing touches nothing


@dataclass(frozen=True)
class SceneConfig:
    """What scenes may contain."""

    nouns: tuple[str, ...] = CORE_NOUNS
    held_out: bool = False  # instances, paints and surfaces kept back for testing
    min_objects: int = 3
    max_objects: int = 10
    repeat_share: float = 0.40  # objects that share noun or colour with one already there
    lying_share: float = 0.5  # of the things that can tip over
    furnished_share: float = 0.60  # scenes that start with a container or a stack
    scans: bool = False  # also use the scanned objects of an asset package (scans.py)

    def __post_init__(self) -> None:
        """Refuse what no scene can satisfy."""
        known = {*BY_NAME, *(SCANS if self.scans else ())}
        unknown = [noun for noun in self.nouns if noun not in known]
        if unknown or not self.nouns:
            raise SceneImpossible(f"nouns {unknown or '()'} are not in the catalogue: {', '.join(BY_NAME)}")
        if not 1 <= self.min_objects <= self.max_objects:
            raise SceneImpossible(
                f"a scene of {self.min_objects} to {self.max_objects} objects was asked for; it has at least one, and "
                "the fewest are not more than the most"
            )


@dataclass(frozen=True, eq=False)
class Scene:
    """A furnished table, before anybody looks at it."""

    objects: tuple[Posed, ...]
    surroundings: Surroundings

    @property
    def table(self) -> TableTop:
        """The surface everything stands on."""
        return self.surroundings.table


def draw_scene(rng: Rng, config: SceneConfig = SceneConfig()) -> Scene:
    """Draw a scene.

    Raises:
        SceneImpossible: fewer than `min_objects` could be placed within the allowed tries.
    """
    surroundings = draw_surroundings(rng, held_out=config.held_out)
    builder = _Builder(rng, config, surroundings.table)
    count = _draw_count(rng, config)
    if rng.random() < config.furnished_share:
        builder.furnish(count)
    for _ in range(TRIES_PER_SCENE):
        if len(builder.placed) >= count:
            break
        builder.add_one()
    if len(builder.placed) < config.min_objects:
        raise SceneImpossible(
            f"placed {len(builder.placed)} of at least {config.min_objects} objects in {TRIES_PER_SCENE} tries"
        )
    return Scene(tuple(builder.placed), surroundings)


def _draw_count(rng: Rng, config: SceneConfig) -> int:
    low, high = config.min_objects, config.max_objects
    weights = np.array([COUNT_WEIGHTS.get(k, 0.02) for k in range(low, high + 1)])
    return int(rng.choice(np.arange(low, high + 1), p=weights / weights.sum()))


@dataclass(frozen=True, eq=False)
class _Item:
    """Something about to be placed."""

    asset: Asset
    rest: Rest
    scale: float
    colour: str | None


class _Builder:
    """The table while it fills up."""

    def __init__(self, rng: Rng, config: SceneConfig, table: TableTop) -> None:
        self.rng = rng
        self.config = config
        self.table = table
        self.placed: list[Posed] = []
        self.middle = self._draw_middle()
        self.spread_m = rng.uniform(0.09, 0.17)

    def furnish(self, count: int) -> None:
        """Start with a container or a flat thing, and put something into or onto it."""
        hosts = [noun for noun in CONTAINERS if noun in self.config.nouns]
        if not hosts or self.rng.random() < 0.35:
            hosts = [noun for noun in FLAT_TOPS if noun in self.config.nouns] or hosts
        if not hosts or not self._place_on_table(self._draw_item(self._pick(hosts))):
            return
        wanted = min(int(self.rng.integers(1, 4)), count - 1)
        for _ in range(20):
            if len(self.placed) > wanted:
                return
            self._place_on_host(self._draw_item(self._pick(self.config.nouns)), self.placed[0])

    def add_one(self) -> None:
        """Try to add one object somewhere; gives up silently, the caller counts."""
        item = self._draw_item(*self._draw_kind())
        hosts = [posed for posed in self.placed if _platform(posed) and posed.support == TABLE]
        if hosts and self.rng.random() < HOST_SHARE:
            host = hosts[int(self.rng.integers(len(hosts)))]
            if self._place_on_host(item, host):
                return
        self._place_on_table(item)

    def _draw_middle(self) -> F64:
        """Where on the table the things gather."""
        half = np.asarray(self.table.size_m) / 2
        own = self.rng.uniform(-1, 1, 2) * np.maximum(half - 0.28, 0.0)
        c, s = math.cos(self.table.yaw_rad), math.sin(self.table.yaw_rad)
        return np.asarray(self.table.centre_m[:2] + np.array([[c, -s], [s, c]]) @ own)

    def _pick(self, names: Sequence[str]) -> str:
        return names[int(self.rng.integers(len(names)))]

    def _draw_kind(self) -> tuple[str, str | None]:
        """A noun and perhaps a colour; often one of them is on the table already."""
        noun = self._pick(self.config.nouns)
        if not self.placed or self.rng.random() > self.config.repeat_share:
            return noun, None
        other = self.placed[int(self.rng.integers(len(self.placed)))]
        if self.rng.random() < 0.6:
            return other.asset.noun, other.colour if self.rng.random() < 0.3 else None
        fits = noun in BY_NAME and other.colour in BY_NAME[noun].colours
        return noun, other.colour if fits else None

    def _draw_item(self, noun: str, colour: str | None = None) -> _Item:
        if self.config.scans and noun in SCANS and (noun not in BY_NAME or self.rng.random() < SCAN_SHARE):
            thing = scanned(noun)
            return _Item(thing, self._draw_rest(thing), float(self.rng.uniform(*SCALE)), SCANS[noun].colour)
        colours = BY_NAME[noun].colours
        colour = colour or colours[int(self.rng.integers(len(colours)))]
        numbers = instances(self.config.held_out)
        thing = asset(noun, int(self.rng.integers(numbers.start, numbers.stop)))
        return _Item(thing, self._draw_rest(thing), float(self.rng.uniform(*SCALE)), colour)

    def _place_on_table(self, item: _Item) -> bool:
        spread = self.spread_m * (1 + 0.04 * len(self.placed))
        others = [posed.footprint for posed in self.placed if posed.support == TABLE]
        for attempt in range(TRIES_PER_SPOT):
            # Long things find no place in a crowd; without a wider search scenes would be full of small ones.
            reach = spread * (1 + attempt / TRIES_PER_SPOT)
            centre = self.middle + self.rng.uniform(-reach, reach, 2)
            footprint = footprint_of(item.rest, item.scale, centre, self._turn())
            if on_table(footprint, self.table, EDGE_MARGIN_M) and all(apart(footprint, o, GAP_M) for o in others):
                self._put(item, footprint, float(self.table.centre_m[2]), None)
                return True
        return False

    def _place_on_host(self, item: _Item, host: Posed) -> bool:
        platform = _platform(host)
        if platform is None or item.asset.noun == host.asset.noun or not may_fit(item.rest, item.scale, host, platform):
            return False
        middle = platform_centre_m(host, platform)
        reach = max(platform.half_x_m, platform.half_y_m) * host.scale
        others = [posed.footprint for posed in self.placed if posed.support == host.id]
        for _ in range(TRIES_PER_SPOT):
            centre = middle[:2] + self.rng.uniform(-0.8, 0.8, 2) * reach
            footprint = footprint_of(item.rest, item.scale, centre, self._turn())
            if fits_platform(footprint, host, platform) and all(apart(footprint, o, GAP_M / 2) for o in others):
                self._put(item, footprint, float(middle[2]), host, platform.inside)
                return True
        return False

    def _draw_rest(self, thing: Asset) -> Rest:
        if len(thing.rests) > 1 and self.rng.random() < self.config.lying_share:
            return thing.rests[1 + int(self.rng.integers(len(thing.rests) - 1))]
        return thing.rests[0]

    def _turn(self) -> float:
        return float(self.rng.uniform(-math.pi, math.pi))

    def _paint(self, item: _Item) -> F64:
        if item.asset.instance == SCAN_INSTANCE or item.colour is None:
            return np.ones(3)
        return paint(item.colour, self.rng, held_out=self.config.held_out)

    def _put(self, item: _Item, footprint: Footprint, z_m: float, host: Posed | None, inside: bool = False) -> None:
        number = sum(posed.asset.noun == item.asset.noun for posed in self.placed) + 1
        self.placed.append(
            Posed(
                id=f"{item.asset.noun}-{number}",
                asset=item.asset,
                rest=item.rest,
                scale=item.scale,
                colour=item.colour,
                rgb=self._paint(item),
                footprint=footprint,
                support_z_m=z_m + CLEARANCE_M,
                support=host.id if host else TABLE,
                container=host.id if host and inside else None,
            )
        )


def assets_of(config: SceneConfig) -> list[Asset]:
    """Every instance that scenes of a config may use, as a Renderer wants them.

    Raises:
        AssetPackageMissing: scans are asked for and not installed.
    """
    own = library([noun for noun in config.nouns if noun in BY_NAME], held_out=config.held_out)
    return own + (scan_library(config.nouns) if config.scans else [])


def _platform(posed: Posed) -> Platform | None:
    return posed.asset.platform if posed.upright else None
