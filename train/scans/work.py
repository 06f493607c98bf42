"""A shard of scans as parts that processes make independently: one part is one frame, its pictures and its samples.

    OUT/shards/0-of-1/
      shard.json                  what it is: plan and counts
      choice_qa.json ...          samples; picture names start with the shard's own
      image/ID_TIME.jpg           also image_visual_choice/, with lettered marks
      depth/ID_TIME.png           16 bits, millimetres, as large as the picture, 0 = hole

Frames are drawn from seeds of their own, so shards and workers may be any number.
"""

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from train.scans.asking import Asked, are_two_views, ask, question_maker
from train.scans.errors import FrameFaulty, ScanInvalid
from train.scans.judging import Judged, Limits, judge
from train.scans.layout import MILLIMETRE, Capture, UpAxis
from train.scans.records import F32, ScanFrame
from train.simulate.parts import JSON
from train.simulate.seeds import QUESTION_STREAM, stream
from train.simulator.depth_noise import to_counts
from train.spatial.formats import TrainingSample, draw_marks, save_jpeg, save_png, turn_of_dialogue
from train.spatial.forms import Dialogue, Mark, across_views
from train.spatial.scene_graph import CameraPose

SCHEMA = 1
DepthSource = Literal["laser", "sensor"]


@dataclass(frozen=True)
class FrameRef:
    """A frame of a capture, and another one of it for questions about two views."""

    capture: str
    time_ns: int
    partner_ns: int | None


@dataclass(frozen=True)
class ShardPlan:
    """Everything that decides what a shard holds."""

    captures: tuple[tuple[str, str], ...]  # (id, path)
    every: int
    shard: tuple[int, int] = (0, 1)  # number, of how many
    seed: int = 0
    depth: DepthSource = "laser"  # what the samples' depth maps are
    up: UpAxis = "z"
    limits: Limits = field(default_factory=Limits)
    frames: tuple[FrameRef, ...] = ()

    @property
    def parts(self) -> int:
        """Frames."""
        return len(self.frames)

    @property
    def name(self) -> str:
        """Of its folder."""
        return "{}-of-{}".format(*self.shard)

    def to_json(self) -> JSON:
        """What a begun shard must agree in to be continued; where the captures lie is not part of it."""
        captures = [name for name, _ in self.captures]
        return {"schema": SCHEMA, **json.loads(json.dumps({**asdict(self), "captures": captures}))}

    def open(self) -> "FrameMaker":
        """A reader of captures."""
        return FrameMaker(self)


def share_of(captures: dict[str, Path], shard: tuple[int, int]) -> tuple[tuple[str, str], ...]:
    """The captures of a shard: every n-th.

    Raises:
        ScanInvalid: There are fewer captures than shards.
    """
    number, of = shard
    mine = list(captures.items())[number::of]
    if not mine:
        raise ScanInvalid(
            f"shard {number}/{of} would be empty: there are {len(captures)} captures; use at most that many shards"
        )
    return tuple((name, str(path.resolve())) for name, path in mine)


def frames_of(captures: Sequence[tuple[str, str]], every: int, up: UpAxis) -> tuple[FrameRef, ...]:
    """Every n-th frame of each capture, with the next one as its partner.

    Raises:
        ScanInvalid: A capture is unreadable, or none has a frame.
    """
    found: list[FrameRef] = []
    for name, path in captures:
        capture = Capture(name, Path(path), up)
        times = capture.times_ns[::every]
        capture.close()
        partners = [*times[1:], None]
        found += [FrameRef(name, time, partner) for time, partner in zip(times, partners, strict=True)]
    if not found:
        raise ScanInvalid(f"{', '.join(name for name, _ in captures)}: no frame with a picture (docs/scans.md)")
    return tuple(found)


class FrameMaker:
    """Reads frames, asks about them and writes their pictures.

    Args:
        plan: Of the shard.
    """

    def __init__(self, plan: ShardPlan) -> None:
        self._plan = plan
        self._paths = {name: Path(path) for name, path in plan.captures}
        self._open: Capture | None = None
        self._known: dict[tuple[str, int], tuple[ScanFrame, Judged] | FrameFaulty] = {}

    def make(self, part: int, folder: Path) -> JSON:
        """Frame `part`: its pictures below `folder`, its samples; `fault` if it cannot be used."""
        ref = self._plan.frames[part]
        rng = stream(self._plan.seed, zlib.crc32(f"{ref.capture}/{ref.time_ns}".encode()), QUESTION_STREAM)
        try:
            frame, judged = self._frame(ref.capture, ref.time_ns)
            maker = question_maker(judged, self._plan.limits, rng)
            asked = ask(maker, judged, rng)
            samples = self._about_one(folder, frame, asked.dialogues)
        except FrameFaulty as fault:
            return {"frame": asdict(ref), "fault": fault.fault, "detail": fault.detail, "samples": []}
        tried = Counter(asked.tried)
        if ref.partner_ns is not None:
            tried["multi_view_qa"] += 1
            samples += self._about_two(ref, frame, judged, rng)
        return _part(ref, judged, Asked(asked.dialogues, tried), samples)

    def close(self) -> None:
        """Close the archive at hand."""
        if self._open is not None:
            self._open.close()

    def _frame(self, name: str, time_ns: int) -> tuple[ScanFrame, Judged]:
        """A frame with its verdicts; the last few are kept, because a frame is its neighbour's partner.

        Raises:
            FrameFaulty: It cannot be used.
        """
        key = (name, time_ns)
        if key not in self._known:
            while len(self._known) > 1:
                del self._known[next(iter(self._known))]
            try:
                frame = self._capture(name).frame(time_ns)
                self._known[key] = frame, judge(frame, self._plan.limits)
            except FrameFaulty as fault:
                self._known[key] = fault
        found = self._known[key]
        if isinstance(found, FrameFaulty):
            raise found
        return found

    def _capture(self, name: str) -> Capture:
        if self._open is None or self._open.name != name:
            self.close()
            self._open = Capture(name, self._paths[name], self._plan.up)
        return self._open

    def _about_one(self, folder: Path, frame: ScanFrame, said: Sequence[Dialogue]) -> list[tuple[str, TrainingSample]]:
        found = []
        save_png(folder / "depth" / f"{frame.name}.png", self._written_depth(frame))
        save_jpeg(folder / "image" / f"{frame.name}.jpg", frame.rgb)
        for k, dialogue in enumerate(said):
            place = f"image/{frame.name}.jpg"
            if dialogue.marks:
                place = f"image_visual_choice/{frame.name}_{k}.jpg"
                save_jpeg(folder / place, draw_marks(frame.rgb, on_picture(dialogue.marks, frame)))
            images, depths = (self._named(place),), (self._named(f"depth/{frame.name}.png"),)
            turns = (turn_of_dialogue(dialogue),)
            found.append((str(dialogue.form), TrainingSample(f"{frame.name}_{k}", images, depths, turns)))
        return found

    def _about_two(
        self, ref: FrameRef, frame: ScanFrame, judged: Judged, rng: np.random.Generator
    ) -> list[tuple[str, TrainingSample]]:
        """One thing in this frame and in its partner; nothing if they share none or the partner cannot be used."""
        assert ref.partner_ns is not None
        try:
            partner, other = self._frame(ref.capture, ref.partner_ns)
            makers = [question_maker(one, self._plan.limits, rng) for one in (judged, other)]
            self._written_depth(partner)
        except FrameFaulty:
            return []
        said = across_views(makers[0], makers[1], rng) if are_two_views(judged, other) else None
        if said is None:
            return []
        names = [one.name for one in (frame, partner)]
        images = tuple(self._named(f"image/{name}.jpg") for name in names)
        depths = tuple(self._named(f"depth/{name}.png") for name in names)
        return [(str(said.form), TrainingSample(f"{frame.name}_views", images, depths, (turn_of_dialogue(said),)))]

    def _named(self, place: str) -> str:
        return f"{self._plan.name}/{place}"

    def _written_depth(self, frame: ScanFrame) -> npt.NDArray[np.uint16]:
        """Counts of millimetres as large as the picture.

        Raises:
            FrameFaulty: The device's own depth is asked for and not there.
        """
        depth_m: F32 | None = frame.depth_m if self._plan.depth == "laser" else frame.sensor_depth_m
        if depth_m is None:
            raise FrameFaulty("missing_file", f"{frame.name}: {frame.time_ns}.wide/depth.png, for --depth sensor")
        height, width = frame.rgb.shape[:2]
        return cv2.resize(to_counts(depth_m, MILLIMETRE), (width, height), interpolation=cv2.INTER_NEAREST)


def on_picture(marks: Sequence[Mark], frame: ScanFrame) -> tuple[Mark, ...]:
    """Marks of the depth raster on the picture's own."""
    camera: CameraPose = frame.camera
    sx, sy = frame.rgb.shape[1] / camera.width, frame.rgb.shape[0] / camera.height
    return tuple(
        Mark(mark.letter, (int((mark.target_px[0] + 0.5) * sx), int((mark.target_px[1] + 0.5) * sy))) for mark in marks
    )


def _part(ref: FrameRef, judged: Judged, asked: Asked, samples: Sequence[tuple[str, TrainingSample]]) -> JSON:
    return {
        "frame": asdict(ref),
        "fault": None,
        "detail": None,
        "boxes": judged.boxes,
        "kept": judged.kept,
        "filtered": dict(judged.filtered),
        "has_table": judged.table is not None,
        "tried": dict(asked.tried),
        "samples": [(form, asdict(sample)) for form, sample in samples],
    }
