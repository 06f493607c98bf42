"""The sim bench: a benchmark in RefSpatial-Bench's layout of scenes, things, paints and surfaces kept from training.

    OUT/
      bench.json            what it is: counts, difficulty, hashes
      Location/             likewise Placement, Unseen (and Depth, Absent of the other sets)
        question.json       RefSpatial-Bench's fields, then ours (see `labels_of`)
        scenes.jsonl        the scene of each question: instances, paints, poses, camera
        image/0000.png      640x480 or 848x480
        mask/0000.png       255 where a point is right
        depth/0000.png      exact, 16-bit, millimetres, 0 = hole
        depth_noisy/        the same through the sensor model (main set only)

Everything is decided by the plan: any number of workers and any interruption gives the same files.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import ConfigError
from hardware.storage import storage_errors, whole_file
from train.simulate import digest
from train.simulate.difficulty import difficulty
from train.simulate.overlap import Overlap, overlap, refuse_overlap
from train.simulate.parts import JSON, PartsDone, Progress, begin, finish, make_parts, read_parts
from train.simulate.seeds import NOISE_STREAM, bench_seed, stream
from train.simulate.slots import SCENES, SIZES, SLOT_MAKERS, Filled, Slot, fill
from train.simulator.depth_noise import noisy_depth, to_counts
from train.simulator.errors import ShardInvalid
from train.simulator.render import FINE, Quality, Renderer
from train.simulator.scene import assets_of
from train.simulator.shards import scene_line
from train.spatial.formats import BenchSample, write_bench_sample, write_questions
from train.spatial.interior import most_interior

SCHEMA = 1
SUMMARY_FILE, SCENES_FILE = "bench.json", "scenes.jsonl"
MILLIMETRE = 0.001

SetName = Literal["main", "noisy", "depth", "absent"]
SETS: Mapping[str, Mapping[str, int]] = {
    "main": {"Location": 400, "Placement": 400, "Unseen": 200},
    "noisy": {"Location": 400, "Placement": 400, "Unseen": 200},  # main with the sensor's depth in place of the exact
    "depth": {"Depth": 1000},
    "absent": {"Absent": 200},
}


@dataclass(frozen=True)
class BenchPlan:
    """Everything that decides what a bench holds."""

    set_name: SetName = "main"
    bench: int = 0  # number of the bench; each has scenes of its own
    counts: tuple[int, ...] = ()  # of each split; the set's own if empty
    raster: tuple[int, int] | None = None  # (width, height) of all pictures; the lens's own size if None
    quality: Quality = FINE

    def __post_init__(self) -> None:
        """Refuse a set or counts that do not exist."""
        if self.set_name not in SETS:
            raise ConfigError(f"there is no set {self.set_name!r}; there are {', '.join(SETS)}")
        bench_seed(self.bench, 0)
        splits = SETS[self.set_name]
        if self.counts and (len(self.counts) != len(splits) or min(self.counts) < 0 or not any(self.counts)):
            asked = ",".join(map(str, self.counts))
            raise ConfigError(f"set {self.set_name} has counts for {', '.join(splits)}, not {asked!r}")

    @property
    def splits(self) -> dict[str, int]:
        """Questions of each split that has any."""
        usual = SETS[self.set_name]
        counts = dict(zip(usual, self.counts or tuple(usual.values()), strict=True))
        return {name: count for name, count in counts.items() if count}

    @property
    def parts(self) -> int:
        """Questions in all."""
        return sum(self.splits.values())

    def slots(self) -> list[Slot]:
        """What each question must be, split by split."""
        numbers = {name: number for number, name in enumerate(SLOT_MAKERS)}
        return [
            SLOT_MAKERS[name](k, bench_seed(self.bench, numbers[name]))
            for name, count in self.splits.items()
            for k in range(count)
        ]

    def to_json(self) -> JSON:
        """What a begun bench must agree in to be continued."""
        return {
            "schema": SCHEMA,
            "set": self.set_name,
            "seed": self.bench,
            "counts": self.splits,
            "raster": self.raster and list(self.raster),
            "quality": {"shadow_px": self.quality.shadow_px, "samples": self.quality.samples},
        }

    def open(self) -> "BenchMaker":
        """A renderer and the list of questions."""
        return BenchMaker(self)


# Small and quick: for tests that want a benchmark of the right form.
CUT = BenchPlan(counts=(10, 8, 6), raster=(224, 168), quality=Quality(samples=4))


class BenchMaker:
    """Fills slots and writes their pictures.

    Args:
        plan: Of the bench.

    Raises:
        GraphicsMissing: No OpenGL here.
    """

    def __init__(self, plan: BenchPlan) -> None:
        self._plan = plan
        self._slots = plan.slots()
        widths, heights = zip(*(SIZES if plan.raster is None else [plan.raster]), strict=True)
        self._renderer = Renderer(assets_of(SCENES), width=max(widths), height=max(heights), quality=plan.quality)

    def make(self, part: int, folder: Path) -> JSON:
        """Fill slot `part` and write its pictures below its split's folder."""
        filled = fill(self._slots[part], self._renderer, self._plan.raster)
        sample = self._bench_sample(filled)
        slot, graph = filled.slot, filled.sample.graph
        entry = write_bench_sample(folder / slot.split, slot.number, sample)
        mask = filled.question.mask
        pixels = [sample.rgb, *(depth for depth in (sample.depth, sample.depth_noisy) if depth is not None)]
        return {
            "split": slot.split,
            "entry": entry,
            "scene": {"id": slot.number, **scene_line(filled.index, filled.sample), "paints": filled.sample.paints},
            "tried": filled.tried,
            "impossible": filled.impossible,
            "objects": len(graph.objects),
            "mask_share": float(mask.mean()),
            "centre_hit": bool(mask[mask.shape[0] // 2, mask.shape[1] // 2]),
            "object_hits": float(np.mean([_is_hit(mask, point) for point in entry["objects"]])),
            "mask_sha256": hashlib.sha256(np.packbits(mask).tobytes()).hexdigest(),
            "pixels_sha256": hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in pixels)).hexdigest(),
        }

    def close(self) -> None:
        """Free the OpenGL context."""
        self._renderer.close()

    def _bench_sample(self, filled: Filled) -> BenchSample:
        kind, depth_m = self._plan.set_name, filled.sample.depth_m
        exact, noisy = to_counts(depth_m, MILLIMETRE), None
        if kind in ("main", "noisy"):
            rng = stream(filled.slot.seed, filled.index, NOISE_STREAM)
            noisy = to_counts(noisy_depth(depth_m, rng), MILLIMETRE)
        return BenchSample(
            filled.question,
            filled.sample.rgb,
            noisy if kind == "noisy" else exact,
            depth_noisy=noisy if kind == "main" else None,
            labels=labels_of(filled),
        )


def labels_of(filled: Filled) -> JSON:
    """The fields of question.json that RefSpatial-Bench does not have, besides kind and relations.

    Points are shares of the picture's width and height, from its top left corner.
    """
    graph, question = filled.sample.graph, filled.question
    target = None if question.target_id is None else graph.by_id(question.target_id)
    camera = graph.camera
    inner = [most_interior(graph.instance_mask == obj.mask_value)[0] for obj in graph.objects]
    return {
        "noun": None if target is None else target.noun,
        "colour": None if target is None else target.colour,
        "point": None if question.target_px is None else _shares(question.target_px, question.mask),
        "objects": [_shares(px, question.mask) for px in inner],  # a point inside each thing, as far as it shows
        "distractors": question.distractors,  # others that its noun and colour alone would fit
        "absent": question.absent,
        "depth_unit_m": MILLIMETRE,
        "intrinsics": {name: round(getattr(camera, name), 4) for name in ("fx", "fy", "cx", "cy")},
        "seed": filled.slot.seed,
        "index": filled.index,
    }


@dataclass(frozen=True)
class BenchMade:
    """What writing a bench came to."""

    out: Path
    summary: JSON  # what bench.json holds
    done: PartsDone | None  # None: it was there already
    overlap: Overlap
    tried: int
    impossible: int


def write_sim_bench(plan: BenchPlan, out: Path, *, workers: int = 1, on_progress: Progress | None = None) -> BenchMade:
    """Write a bench, or open it if it is there.

    Args:
        plan: What it holds.
        out: The folder, complete or absent; work in progress lies hidden beside it and is continued.
        workers: Processes.
        on_progress: Called after each question.

    Raises:
        ShardInvalid: `out` is something else, or work of another plan was begun for it.
        StorageError: Disk full or not writable; finished questions stay.
        GraphicsMissing: No OpenGL here.
        SceneImpossible: A question was offered by no scene.
        TrainingOverlap: Something of training is in it.
    """
    if out.exists():
        return open_sim_bench(plan, out)
    staged = begin(out, plan)
    done = make_parts(plan, staged, workers=workers, on_progress=on_progress)
    parts = read_parts(plan, staged)
    shared = overlap([part["scene"] for part in parts], [part["entry"]["seed"] for part in parts])
    refuse_overlap(shared)
    with storage_errors(out):
        for split in plan.splits:
            own = [part for part in parts if part["split"] == split]
            write_questions(staged / split, [part["entry"] for part in own])
            _write_lines(staged / split / SCENES_FILE, [part["scene"] for part in own])
    summary = _summary(plan, staged, parts)
    with whole_file(staged / SUMMARY_FILE) as partial:
        partial.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    finish(staged, out)
    tried, impossible = (sum(part[name] for part in parts) for name in ("tried", "impossible"))
    return BenchMade(out, summary, done, shared, tried, impossible)


def open_sim_bench(plan: BenchPlan, out: Path) -> BenchMade:
    """What is known of a finished bench.

    Raises:
        ShardInvalid: It is no bench, or one of another plan.
    """
    try:
        summary = json.loads((out / SUMMARY_FILE).read_text(encoding="utf-8"))
        found = summary["plan"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardInvalid(f"{out} exists and is no sim bench ({error}); choose another folder") from error
    if found != json.loads(json.dumps(plan.to_json())):
        raise ShardInvalid(f"{out} is a bench of another plan: {found}; choose another folder")
    scenes = read_scenes(out)
    seeds = [entry["seed"] for split in plan.splits for entry in read_entries(out, split)]
    return BenchMade(out, summary, None, overlap(scenes, seeds), 0, 0)


def read_entries(out: Path, split: str) -> list[JSON]:
    """The questions of one split of a finished bench."""
    return list(json.loads((out / split / "question.json").read_text(encoding="utf-8")))


def read_scenes(out: Path) -> list[JSON]:
    """The scenes of a finished bench, split by split."""
    files = sorted(out.glob(f"*/{SCENES_FILE}"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def _summary(plan: BenchPlan, staged: Path, parts: list[JSON]) -> JSON:
    return {
        "plan": plan.to_json(),
        "difficulty": {split: difficulty([part for part in parts if part["split"] == split]) for split in plan.splits},
        "hashes": {
            # Equal on every machine, unless its OpenGL draws an edge so differently that a choice tips over.
            "scenes": digest.of_json([digest.scene_key(part["scene"]) for part in parts]),
            "questions": digest.of_json([digest.asked(part["entry"]) for part in parts]),
            # Of what was drawn: these may differ between OpenGL drivers.
            "masks": digest.of_json([part["mask_sha256"] for part in parts]),
            "pixels": digest.of_json([part["pixels_sha256"] for part in parts]),
            # Over all files but this one and plan.json's folder, in sorted order.
            "files": digest.of_files(staged),
        },
        "made_with": {"mujoco": version("mujoco"), "pillow": version("pillow"), "numpy": version("numpy")},
    }


def _shares(px: tuple[int, int], mask: npt.NDArray[Any]) -> list[float]:
    height, width = mask.shape
    return [round((px[0] + 0.5) / width, 5), round((px[1] + 0.5) / height, 5)]


def _is_hit(mask: npt.NDArray[np.bool_], point: list[float]) -> bool:
    height, width = mask.shape
    return bool(mask[int(point[1] * height), int(point[0] * width)])


def _write_lines(path: Path, lines: list[JSON]) -> None:
    with whole_file(path) as partial:
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
