"""`bench sweep`: every bundle under every budget it can have; a stopped sweep goes on; its file makes a figure."""

import json
from pathlib import Path

import pytest
import torch

from bench.datasets import open_dataset
from bench.sweep import PARTS, SweepRequest, budgets_of, common_size, plan
from edge_runtime.bundle import shipped_bundle
from edge_runtime.errors import ConfigError
from export.assemble import export_bundle
from tests.bench.tiny_dataset import HEIGHT, WIDTH
from tests.flow.command_line import Shell, keeps_schema
from train.seeded import write_seeded


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle that cuts pictures into up to six tiles."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("tiled")
    write_seeded(root / "checkpoint", "dynamic")
    return export_bundle(root / "checkpoint", root / "bundle", name="tiled").bundle.path


def request(dataset: Path, *bundles: Path, max_tiles: tuple[int, ...] = ()) -> SweepRequest:
    return SweepRequest(bundles=bundles, data=dataset, out=dataset.parent / "out", max_tiles=max_tiles)


def test_each_bundle_has_the_budgets_it_can_have(tiled: Path, dataset: Path) -> None:
    points = plan(request(dataset, tiled, shipped_bundle()), open_dataset(dataset))
    assert [point.max_tiles for point in points if point.label == "tiled"] == [1, 3, 6]
    assert [point.max_tiles for point in points if point.label != "tiled"] == [None]  # one tile, whatever is asked
    assert len({point.folder for point in points}) == 4
    wished = plan(request(dataset, tiled, max_tiles=(4, 2, 4)), open_dataset(dataset))
    assert [point.max_tiles for point in wished] == [2, 4]


def test_other_questions_go_to_other_folders(tiled: Path, dataset: Path) -> None:
    first = plan(request(dataset, tiled), open_dataset(dataset))
    (dataset / "Location" / "question.json").write_text(
        (dataset / "Location" / "question.json").read_text().replace("cup", "mug")
    )
    second = plan(request(dataset, tiled), open_dataset(dataset))
    assert not {point.folder for point in first} & {point.folder for point in second}


def test_what_cannot_be_swept(tiled: Path, dataset: Path) -> None:
    with pytest.raises(ConfigError, match="named twice"):
        plan(request(dataset, tiled, tiled), open_dataset(dataset))
    with pytest.raises(ConfigError, match="--max-tiles 999 is outside"):
        plan(request(dataset, tiled, max_tiles=(999,)), open_dataset(dataset))
    with pytest.raises(ConfigError, match="no tile budgets"):
        budgets_of("1,two")
    assert budgets_of("1,3") == (1, 3)
    assert common_size(open_dataset(dataset)) == (WIDTH, HEIGHT)


@pytest.mark.slow  # two processes that open a bundle
def test_a_sweep_from_the_shell(shell: Shell, tiled: Path, dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = ("bench", "sweep", tiled, "--data", dataset, "--out", out, "--max-tiles", "1,4", "--limit", 1)
    done = shell(*asked, "--count", 1, "--warmup", 0, "--threads", 1, "--json")
    assert done.code == 0, done.err
    keeps_schema(done.last_json, "bench_sweep")
    assert json.loads((out / "sweep.json").read_text()) == done.last_json
    points = done.last_json["points"]
    assert [(p["max_tiles"], p["tiles"], p["n"]) for p in points] == [(1, 1, 2), (4, 1, 2)]  # 64x48 is one tile
    parts = sorted(path.name for path in (out / PARTS).iterdir())
    assert len(parts) == 2
    timed = [path.stat().st_mtime_ns for path in sorted(out.rglob("latency.json"))]

    again = shell(*asked, "--count", 1, "--warmup", 0, "--threads", 1, "--json")
    assert again.code == 0
    assert [path.stat().st_mtime_ns for path in sorted(out.rglob("latency.json"))] == timed
    assert again.last_json["points"] == points

    page = shell("bench", "report", out, "--out", tmp_path / "page.html", "--json")
    assert [source["kind"] for source in page.last_json["sources"]] == ["bench_sweep"]
    assert "Accuracy against latency</h2>" in (tmp_path / "page.html").read_text()
