"""Calibration data: questions with pictures, drawn by seed, read one by one, through the robot's own preprocess.

What is measured on them (ranges, sums, Hessians) is collected elsewhere while they stream by. Where they come from
is `calibration_sources.py`'s business.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.golden import GoldenCase
from edge_runtime.manifest import Manifest
from edge_runtime.preprocess import preprocess_depth, preprocess_rgb
from edge_runtime.records import F32, Depth, MetricDepth, Modality, View, ViewTiles
from hardware.geometry import Intrinsics

_log = logging.getLogger(__name__)

FEWEST = 4  # below that a range says more about the pictures than about the model
NEAR_M, FAR_M = 0.05, 60.0  # where half of a depth picture lies, whatever the camera


@dataclass(frozen=True)
class CalibrationQuestion:
    """A question whose pictures are read when they are needed."""

    name: str  # where it is from, for messages
    instruction: str  # sent unchanged
    load: Callable[[], View]
    of_camera: bool = True  # False: of the bundle itself, so no camera's size or depth is expected of it


@dataclass(frozen=True)
class CalibrationSet:
    """The drawn questions; iterating reads them one by one.

    Raises:
        DataError: Too few, or (while iterating) one that cannot be read or does not fit the model or the camera.
    """

    source: str  # what was named on the command line
    questions: tuple[CalibrationQuestion, ...]
    seed: int
    needs_depth: bool = False  # of the model
    camera: Intrinsics | None = None  # the robot's: pictures of another size are refused

    def __post_init__(self) -> None:
        """Refuse a set that says too little."""
        if len(self.questions) < FEWEST:
            raise DataError(
                f"{self.source} gives {len(self.questions)} calibration questions, {FEWEST} is the least that says "
                "anything about a model and 64 is usual; name a larger folder or recording with --calibration"
            )

    def __len__(self) -> int:
        return len(self.questions)

    def __iter__(self) -> Iterator[tuple[CalibrationQuestion, View]]:
        """Each question with its pictures; nothing is kept."""
        for question in self.questions:
            yield question, self._checked(question, question.load())

    def first(self, count: int) -> "CalibrationSet":
        """The first few of the set, for measurements that cost more."""
        return replace(self, questions=self.questions[: max(FEWEST, count)])

    @cached_property
    def sha256(self) -> str:
        """Over every drawn picture, depth and instruction, in order; goes into the lineage."""
        digest = hashlib.sha256()
        for question, view in self:
            digest.update(question.instruction.encode("utf-8", errors="replace") + b"\0")
            digest.update(repr(view.rgb.shape).encode() + np.ascontiguousarray(view.rgb).tobytes())
            if view.depth is not None:
                digest.update(_depth_bytes(view.depth))
        return digest.hexdigest()

    def with_golden(self, cases: Sequence[GoldenCase]) -> "CalibrationSet":
        """The set and a bundle's golden pictures, so that ranges hold for what `check` measures with too."""
        own = tuple(
            CalibrationQuestion(f"golden case {case.name}", case.instruction, partial(_identity, case.view), False)
            for case in cases
        )
        return replace(self, questions=self.questions + own)

    def _checked(self, question: CalibrationQuestion, view: View) -> View:
        if not question.of_camera:
            return view
        if self.camera is not None and view.rgb.shape[:2] != (self.camera.height, self.camera.width):
            raise DataError(
                f"{question.name} is of another camera: {view.rgb.shape[1]}x{view.rgb.shape[0]} pixels, the robot's "
                f"takes {self.camera.width}x{self.camera.height}. Record calibration data with the robot's camera."
            )
        if not self.needs_depth:
            return replace(view, depth=None)
        if view.depth is None:
            raise DataError(
                f"{question.name} has no depth, but this model has a depth tower whose ranges depend on it. Use RGB-D "
                "data: a replay folder, a recording, or a folder with depth pictures."
            )
        _check_distance(question.name, view.depth)
        return view


def tiles_of(view: View, modality: Modality, manifest: Manifest) -> ViewTiles | None:
    """The tiles a robot would make of one modality of a view; None if it has none."""
    if modality == "image":
        return preprocess_rgb(view.rgb, manifest.image)
    if view.depth is None or manifest.image.depth is None:
        return None
    return preprocess_depth(view.depth, manifest.image, manifest.depth)


def single_tiles(calibration: CalibrationSet, modality: Modality, manifest: Manifest) -> Iterator[F32]:
    """Every tile of a modality as float32 [1, 3, h, w]: one at a time, so memory does not grow with the set."""
    for _, view in calibration:
        tiles = tiles_of(view, modality, manifest)
        if tiles is not None:
            for index in range(len(tiles.pixels)):
                yield tiles.pixels[index : index + 1]


def drawn(count: int, available: int, seed: int, source: str | Path) -> list[int]:
    """Which of the available items to use: `count` of them by seed, in rising order; all if there are fewer."""
    if available < count:
        _log.warning("%s holds %d calibration items, %d were asked for; all are used", source, available, count)
        return list(range(available))
    chosen = np.random.default_rng(seed).choice(available, count, replace=False)
    return sorted(int(i) for i in chosen)


def _identity(view: View) -> View:
    return view


def _check_distance(name: str, depth: Depth) -> None:
    """Metres read with a wrong unit are a thousand times off; ranges from such depth would be nonsense."""
    if not isinstance(depth, MetricDepth):
        return
    valid = depth.depth_m[np.isfinite(depth.depth_m)]
    if valid.size == 0:
        raise DataError(f"{name}: the depth picture is all hole; leave such frames out of the calibration data")
    if not NEAR_M <= (median := float(np.median(valid))) <= FAR_M:
        raise DataError(
            f"{name} is of another camera or unit: its median depth is {median:.4g} m, expected {NEAR_M} to {FAR_M} m. "
            "Give the right unit with --depth-unit."
        )


def _depth_bytes(depth: Depth) -> bytes:
    array = depth.depth_m if isinstance(depth, MetricDepth) else depth.picture
    return repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()
