"""Datasets on disk: the same for any worker count and any interruption, whole or absent, refused when unfit."""

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hardware.errors import StorageError
from train.simulator.dataset import Plan, open_dataset, render_dataset
from train.simulator.errors import ShardInvalid
from train.simulator.sample import draw_sample
from train.simulator.scene import SceneConfig
from train.simulator.shards import DEPTH_UNIT_M, Shard, write_shard

FEW = SceneConfig(nouns=("mug", "apple", "book", "ball", "bowl", "hammer"))
PLAN = Plan(seed=11, count=7, width=96, height=80, shard_size=3, scene=FEW)
ROOT = Path(__file__).resolve().parents[3]


def digest(folder: Path) -> dict[str, str]:
    shards = sorted((folder / "shards").rglob("*.*"))
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in shards if f.is_file()}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sim") / "data"
    summary = render_dataset(PLAN, out)
    assert (summary.frames, summary.skipped, summary.reused_shards) == (7, 0, 0)
    return out


def test_what_is_read_is_what_was_drawn(rendered: Path, renderer) -> None:
    shards = open_dataset(rendered)
    assert [len(shard) for shard in shards] == [3, 3, 1]
    first = draw_sample(renderer, PLAN.seed, 4, FEW, (96, 80))
    shard = shards[1]
    assert shard.scenes[1]["index"] == 4
    assert shard.scenes[1]["assets"] == list(first.assets)
    assert shard.scenes[1]["surface"] == first.surface
    assert np.array_equal(shard.rgb[1], first.rgb)
    graph = shard.graph(1)
    assert np.array_equal(graph.instance_mask, first.graph.instance_mask)
    near = first.depth_m < 7.9
    assert np.abs(shard.depth[1] * DEPTH_UNIT_M - first.depth_m)[near].max() <= DEPTH_UNIT_M / 2 + 1e-6
    assert np.abs(graph.world_xyz_m - first.graph.world_xyz_m)[near].max() < 3e-4
    for read, drawn in zip(graph.objects, first.graph.objects, strict=True):
        assert (read.id, read.noun, read.colour, read.support) == (drawn.id, drawn.noun, drawn.colour, drawn.support)
        assert np.array_equal(read.world_from_object, drawn.world_from_object)
        assert read.parts.keys() == drawn.parts.keys()


def test_noise_is_beside_the_truth(rendered: Path) -> None:
    shard = open_dataset(rendered)[0]
    assert shard.noisy is not None
    both = (shard.noisy > 0) & (shard.mask > 0)
    assert 0.5 < both.mean() / (shard.mask > 0).mean() < 1.0
    assert np.median(np.abs(shard.noisy.astype(float) - shard.depth)[both]) * DEPTH_UNIT_M < 0.02


def test_the_log_states_the_speed(rendered: Path) -> None:
    lines = [json.loads(line) for line in (rendered / "log.jsonl").read_text().splitlines()]
    assert lines[0]["frames"] == 7
    assert lines[0]["frames_per_s"] > 0


def test_two_workers_give_the_same_bytes(rendered: Path, tmp_path: Path) -> None:
    summary = render_dataset(PLAN, tmp_path / "two", workers=2)
    assert summary.frames == 7
    assert digest(tmp_path / "two") == digest(rendered)


def test_a_killed_run_is_continued_to_the_same_bytes(rendered: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    program = f"""
from pathlib import Path
from train.simulator.dataset import Plan, render_dataset
from train.simulator.scene import SceneConfig
plan = Plan(seed=11, count=7, width=96, height=80, shard_size=3, scene=SceneConfig(nouns={FEW.nouns!r}))
render_dataset(plan, Path({str(out)!r}), on_progress=lambda _: (print("shard", flush=True), input()))
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "shard\n"
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    child.stdout.close()
    assert child.stdin is not None
    child.stdin.close()
    (out / "shards" / ".00001.partial-abc").mkdir()
    summary = render_dataset(PLAN, out)
    assert (summary.frames, summary.reused_shards) == (4, 1)
    assert digest(out) == digest(rendered)
    assert not list((out / "shards").glob(".*"))


def test_a_finished_dataset_is_left_alone(rendered: Path) -> None:
    stamps = {f: f.stat().st_mtime_ns for f in (rendered / "shards").rglob("*.npy")}
    summary = render_dataset(PLAN, rendered)
    assert (summary.frames, summary.reused_shards) == (0, 3)
    assert stamps == {f: f.stat().st_mtime_ns for f in (rendered / "shards").rglob("*.npy")}


def test_another_plan_is_refused(rendered: Path) -> None:
    with pytest.raises(ShardInvalid, match="seed"):
        render_dataset(Plan(seed=12, count=7, width=96, height=80, shard_size=3, scene=FEW), rendered)


def test_an_unfinished_or_foreign_folder_is_refused(tmp_path: Path, rendered: Path) -> None:
    with pytest.raises(ShardInvalid, match="train simulate"):
        open_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text((rendered / "dataset.json").read_text())
    with pytest.raises(ShardInvalid, match="lacks 3 of 3"):
        open_dataset(tmp_path)


def test_a_damaged_array_is_named(rendered: Path, tmp_path: Path) -> None:
    (tmp_path / "00000").mkdir()
    (tmp_path / "00000" / "rgb.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(ShardInvalid, match=r"rgb\.npy"):
        _ = Shard(tmp_path / "00000").rgb


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, samples) -> None:
    program = f"""
import resource, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {str(ROOT)!r})
from hardware.errors import StorageError
from train.simulator.assets import library
from train.simulator.render import Renderer
from train.simulator.sample import draw_sample
from train.simulator.scene import SceneConfig
from train.simulator.shards import write_shard
scenes = SceneConfig(nouns=("mug", "ball"))
with Renderer(library(("mug", "ball")), width=96, height=96) as renderer:
    sample = draw_sample(renderer, 0, 0, scenes, (96, 96))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_shard(Path({str(tmp_path)!r}) / "00000", [(0, sample)], seed=0, skipped=[], noisy=True)
except StorageError as error:
    print("told:", error)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert "told:" in done.stdout, done.stderr
    assert "MiB free" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_told(tmp_path: Path, samples) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write"):
        write_shard(tmp_path / "file" / "00000", [(0, samples[0])], seed=0, skipped=[], noisy=False)


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ShardInvalid, match="at least one"):
        Plan(seed=0, count=0)
