"""`roborefer-edge train scans` as a shell sees it: shards, resuming, joining, data sets, faults."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edge_runtime.errors import ConfigError
from tests.contracts.readme_tree import REPOSITORY
from tests.train.scans.conftest import Written
from train.data.registry import load_registry
from train.data.training_set import Dataset, load_views
from train.scans.capture_files import find_captures
from train.scans.command import Asking, run_join, run_shard
from train.scans.errors import ScanInvalid
from train.scans.shards import make_shard
from train.scans.work import ShardPlan, frames_of, share_of
from train.simulator.errors import ShardInvalid
from train.spatial.formats import read_training

SCHEMA = json.loads((REPOSITORY / "docs" / "schema" / "train_scans.json").read_text(encoding="utf-8"))
EVERY = Asking(every=1)


def valid(report: dict[str, Any]) -> dict[str, Any]:
    Draft202012Validator(SCHEMA).validate(report)
    return report


def files_of(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def whole(written: Written, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Both scans as one shard, with a sheet."""
    out = tmp_path_factory.mktemp("whole") / "out"
    sheet = out.parent / "sheet.html"
    return out, valid(run_shard(written.folders, out, EVERY, shard="0/1", workers=1, sheet=sheet))


def test_the_data_sets_are_read_by_the_trainer(whole: tuple[Path, dict[str, Any]]) -> None:
    out, report = whole
    registry = load_registry(out, (out / "scans.toml",))
    assert len(registry.present()) == 5
    for entry in registry.present():
        dataset = Dataset(entry)
        assert len(dataset) == report["samples"][entry.name.removeprefix("scans_")] > 0
        views = load_views(entry, dataset.sample(0))
        assert len(views) == (2 if entry.name == "scans_multi_view_qa" else 1)
        assert all(view.depth is not None for view in views)
    page = Path(report["sheet"]).read_text(encoding="utf-8")
    assert all(entry.name in page for entry in registry.present())
    assert page.count("data:image/jpeg") >= 20


def test_counts_add_up(whole: tuple[Path, dict[str, Any]], written: Written) -> None:
    _, report = whole
    frames = [frame for scan in written.scans for frame in scan.frames]
    assert (report["captures"], report["frames"]["seen"], report["frames"]["used"]) == (2, len(frames), len(frames))
    left_out = sum(report["boxes"]["filtered"].values())
    tables = report["frames"]["with_table"]
    assert report["boxes"]["kept"] + left_out + tables == report["boxes"]["seen"]
    assert report["boxes"]["filtered"]["structure"] == 2 * len(frames)
    assert all(report["samples"][form] <= report["tried"][form] for form in report["tried"])


def test_archives_and_two_shards_and_two_workers_say_the_same(
    whole: tuple[Path, dict[str, Any]], written: Written, tmp_path: Path
) -> None:
    for number in range(2):
        report = valid(run_shard(written.archives, tmp_path, EVERY, shard=f"{number}/2", workers=2))
        assert (report["registry"], report["captures"]) == (None, 1)
    joined = valid(run_join(tmp_path, 2))
    out, report = whole
    assert joined["samples"] == report["samples"]
    for form in report["samples"]:
        one, two = (read_training(folder / f"{form}.json") for folder in (out, tmp_path))
        assert [sample.turns for sample in one] == [sample.turns for sample in two]
        assert all(
            (tmp_path / "shards" / name).is_file() for sample in two for name in (*sample.images, *sample.depths)
        )


def test_an_interrupted_shard_goes_on_to_the_same_files(
    whole: tuple[Path, dict[str, Any]], written: Written, tmp_path: Path
) -> None:
    captures = share_of(find_captures(written.folders), (0, 1))
    plan = ShardPlan(captures, every=1, frames=frames_of(captures, 1, "z"))

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_shard(plan, tmp_path, workers=1, on_progress=stop)
    assert not (tmp_path / "shards" / plan.name).exists()
    again = make_shard(plan, tmp_path, workers=1)
    assert again.done is not None
    assert (again.done.made, again.done.reused) == (plan.parts - 2, 2)
    assert files_of(again.folder) == files_of(whole[0] / "shards" / plan.name)
    assert make_shard(plan, tmp_path, workers=1).done is None


def test_what_cannot_be_is_refused_with_what_to_do(
    whole: tuple[Path, dict[str, Any]], written: Written, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    asked = [
        (ConfigError, "is not i/n", lambda: run_shard(written.folders, tmp_path, EVERY, shard="2/2", workers=1)),
        (ConfigError, "--join", lambda: run_shard(
            written.folders, tmp_path, EVERY, shard="0/2", workers=1, sheet=tmp_path / "s.html")),
        (ScanInvalid, "at most that many", lambda: run_shard(written.folders, tmp_path, EVERY, shard="2/3", workers=1)),
        (ScanInvalid, "holds no capture", lambda: find_captures(tmp_path / "empty")),
        (ScanInvalid, "is no folder", lambda: find_captures(tmp_path / "x")),
        (ScanInvalid, "1 of 2 shards are missing.*1-of-2", lambda: run_join(tmp_path / "half", 2)),
        (ScanInvalid, "another", lambda: run_shard(written.folders, whole[0], Asking(every=2), shard="0/1", workers=1)),
    ]  # fmt: skip
    shutil.copytree(whole[0] / "shards" / "0-of-1", tmp_path / "half" / "shards" / "0-of-2")
    for error, message, call in asked:
        with pytest.raises((error, ShardInvalid), match=message):
            call()


def test_a_cut_archive_is_refused(written: Written, tmp_path: Path) -> None:
    source = next(written.archives.glob("*.tar"))
    (tmp_path / source.name).write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(ScanInvalid, match="download it again"):
        run_shard(tmp_path, tmp_path / "out", EVERY, shard="0/1", workers=1)


def test_frames_that_fail_are_counted_and_the_rest_goes_on(written: Written, tmp_path: Path) -> None:
    scan = written.scans[0]
    shutil.copytree(written.folders / scan.name, tmp_path / "in" / scan.name)
    (tmp_path / "in" / scan.name / f"{scan.frames[1].time_ns}.gt" / "RT.json").unlink()
    report = valid(run_shard(tmp_path / "in", tmp_path / "out", EVERY, shard="0/1", workers=1))
    assert report["frames"]["faults"] == {"missing_file": 1}
    assert "RT.json" in report["frames"]["examples"][0]
    assert report["samples"]["multi_view_qa"] == 0, "each other frame's partner was the bad one, or none"


@pytest.mark.slow
def test_the_array_script_makes_and_joins_shards(written: Written, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "roborefer-edge"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'import sys; from edge_runtime.cli import main; "
                    "sys.exit(main())' \"$@\"\n")  # fmt: skip
    tool.chmod(0o755)
    script = REPOSITORY / "train" / "scans" / "slurm_array.sh"
    for number in range(2):
        done = subprocess.run(
            [script, written.folders, tmp_path / "out", "--every", "1"],
            env={**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY),
                 "SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_COUNT": "2"},
            capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out" / "scans.toml").exists() == (number == 1)
    assert subprocess.run([script], capture_output=True, check=False).returncode == 2
