"""Scenes on disk, ready to be trained on: one folder per shard, whole or absent, read through the page cache.

    00012/
      rgb.npy          uint8   [N, tile, tile, 3]
      depth.npy        uint8   [N, tile, tile]      exact
      noisy_depth.npy  uint8   [N, tile, tile]      as a sensor sees it
      patches.npy      float16 [N, patches, len(PATCH_COLUMNS)]
      masks.npy        uint8   [questions, tile * tile / 8]   bits; only where questions carry masks
      questions.jsonl  one line per question, with its scene's position in the shard

What stands in a scene is `world.py`'s business, how batches are drawn `batches.py`'s.
"""

import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edge_runtime.errors import CheckpointError
from hardware.storage import storage_errors
from train.nano.records import Bools, Labels, NanoQuestion, NanoScene

SHARD_SCENES = 64
_ARRAYS = ("rgb", "depth", "noisy_depth", "patches")


class World(Protocol):
    """Where scenes come from; must survive being sent to another process."""

    @property
    def labels(self) -> Labels:
        """Names behind the classes of its patches."""
        ...

    def scene(self, index: int) -> NanoScene | None:
        """Scene `index`, the same on every call; None if it cannot be made."""
        ...


@dataclass(frozen=True)
class RenderReport:
    """One more shard."""

    shards_done: int
    shards: int
    scenes: int
    questions: int


# --- writing ------------------------------------------------------------------------------------------------


def render(
    world: World,
    out: Path,
    scenes: int,
    *,
    workers: int = 1,
    on_shard: Callable[[RenderReport], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Make the shards that are still missing.

    Args:
        world: Where scenes come from.
        out: Folder of the shards.
        scenes: How many scenes there shall be; scene i is always in shard i // SHARD_SCENES.
        workers: Processes; 1 renders in this one.
        on_shard: Called after each shard.
        should_stop: Asked between shards; what is finished stays.

    Returns:
        Number of complete shards.

    Raises:
        StorageError: Disk full or not writable; finished shards stay.
    """
    shards = shards_of(scenes)
    missing = [k for k in range(shards) if not _folder(out, k).is_dir()]
    _clear_partial(out)
    done = shards - len(missing)
    jobs = [(world, out, k, min(SHARD_SCENES, scenes - k * SHARD_SCENES)) for k in missing]
    for found, asked in _finished(jobs, workers, should_stop):
        done += 1
        on_shard(RenderReport(done, shards, found, asked))
    return done


def shards_of(scenes: int) -> int:
    """How many shards that many scenes fill."""
    return -(-scenes // SHARD_SCENES)


def count_shards(folder: Path) -> int:
    """How many whole shards there are."""
    return len(list(folder.glob("[0-9]*")))


def _finished(
    jobs: Sequence[tuple[World, Path, int, int]], workers: int, should_stop: Callable[[], bool]
) -> Iterator[tuple[int, int]]:
    if workers <= 1:
        for job in jobs:
            if should_stop():
                return
            yield _make_shard(*job)
        return
    # OpenGL does not survive a fork, so workers start afresh.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        futures = [pool.submit(_make_shard, *job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
            if should_stop():
                pool.shutdown(wait=True, cancel_futures=True)
                return


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, which ends between shards; and leave with it if it is killed.

    A worker that outlived its parent would put a shard where the next run is about to put the same one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "only workers run this"
    parent.join()
    os._exit(1)  # the main thread is busy in native code or waits for work that will not come


def _make_shard(world: World, out: Path, shard: int, count: int) -> tuple[int, int]:
    """Scenes and questions of one shard."""
    first = shard * SHARD_SCENES
    scenes = [scene for scene in map(world.scene, range(first, first + count)) if scene is not None]
    write_shard(_folder(out, shard), scenes)
    return len(scenes), sum(len(scene.questions) for scene in scenes)


def write_shard(folder: Path, scenes: Sequence[NanoScene]) -> None:
    """Write one shard.

    Raises:
        StorageError: Disk full or not writable.
    """
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
        try:
            for name in _ARRAYS:
                np.save(partial / f"{name}.npy", np.stack([getattr(scene, name) for scene in scenes]))
            questions = [(i, question) for i, scene in enumerate(scenes) for question in scene.questions]
            masks = [question.mask for _, question in questions if question.mask is not None]
            if masks:
                np.save(partial / "masks.npy", np.stack([np.packbits(mask) for mask in masks]))
            lines = [json.dumps({"scene": i, **_to_json(question)}) + "\n" for i, question in questions]
            (partial / "questions.jsonl").write_text("".join(lines), encoding="utf-8")
            partial.chmod(0o755)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _to_json(question: NanoQuestion) -> dict[str, Any]:
    return {
        "text": question.text,
        "split": question.split,
        "kind": question.kind,
        "step": question.step,
        "phrase": question.phrase,
        "point": [round(v, 5) for v in question.point],
        "anchors": [[round(v, 4) for v in anchor] for anchor in question.anchors],
        "masked": question.mask is not None,
    }


def _folder(out: Path, shard: int) -> Path:
    return out / f"{shard:05d}"


def _clear_partial(out: Path) -> None:
    for left in out.glob(".*.partial-*"):
        shutil.rmtree(left, ignore_errors=True)


# --- reading ------------------------------------------------------------------------------------------------


class SceneSet:
    """The scenes of one folder or several.

    Args:
        folders: As `render` filled them; shards that appear later are not seen.
        limit: Use this many shards of each at most.

    Raises:
        CheckpointError: There is no shard.
    """

    def __init__(self, *folders: Path, limit: int | None = None) -> None:
        self.shards = [_Shard(path) for folder in folders for path in sorted(folder.glob("[0-9]*"))[:limit]]
        if not self.shards:
            names = " and ".join(map(str, folders))
            raise CheckpointError(f"{names} hold no rendered scenes; run the render step first")
        self._ends = np.cumsum([len(shard.rgb) for shard in self.shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def place(self, index: int) -> "tuple[_Shard, int]":
        """The shard of a scene and its position there."""
        shard = int(np.searchsorted(self._ends, index, side="right"))
        return self.shards[shard], index - (int(self._ends[shard - 1]) if shard else 0)

    def questions(self, index: int) -> Sequence[NanoQuestion]:
        """The questions of a scene, without masks."""
        shard, position = self.place(index)
        return shard.questions[position]

    def masks(self, index: int) -> list[Bools]:
        """The masks [tile, tile] of a scene's questions; empty if none were kept."""
        shard, position = self.place(index)
        return shard.masks(position)

    def stack(self, name: str, indices: Sequence[int]) -> Any:
        """One array of several scenes: [len(indices), ...]."""
        return np.stack([getattr(shard, name)[position] for shard, position in map(self.place, indices)])


class _Shard:
    """One folder; arrays are mapped, questions read when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rgb, self.depth, self.noisy_depth, self.patches = (
            np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS
        )

    @cached_property
    def questions(self) -> list[list[NanoQuestion]]:
        """Questions of each scene."""
        found: list[list[NanoQuestion]] = [[] for _ in range(len(self.rgb))]
        for line in (self.folder / "questions.jsonl").read_text(encoding="utf-8").splitlines():
            data = json.loads(line)
            data.pop("masked")
            anchors = tuple((x, y) for x, y in data.pop("anchors"))
            scene, (x, y) = data.pop("scene"), data.pop("point")
            found[scene].append(NanoQuestion(**data, point=(x, y), anchors=anchors))
        return found

    def masks(self, position: int) -> list[Bools]:
        """Masks of one scene's questions."""
        if not (self.folder / "masks.npy").is_file():
            return []
        packed = np.load(self.folder / "masks.npy", mmap_mode="r")
        start = sum(len(questions) for questions in self.questions[:position])
        tile = self.rgb.shape[1]
        rows = packed[start : start + len(self.questions[position])]
        return [np.unpackbits(row, count=tile * tile).reshape(tile, tile).astype(bool) for row in rows]
