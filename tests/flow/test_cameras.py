"""`run` and `record` on every camera that needs no hardware: replay folder, .db3, software device, a real bag."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.flow.command_line import Outcome, Shell, keeps_schema
from tests.synthetic_scene import write_clip

FRAMES = 4


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replay folder of a synthetic table whose depth camera is not the RGB camera."""
    folder = tmp_path_factory.mktemp("clips") / "table"
    write_clip(folder, count=FRAMES, width=320, height=240, shadow_samples=1, supersample=1)
    return folder


def lines(outcome: Outcome) -> list[dict[str, Any]]:
    """Every record of a run, each valid under the schema, the summary last."""
    records = [json.loads(line) for line in outcome.out.splitlines()]
    for record in records:
        keeps_schema(record, "run")
    assert records[-1]["kind"] == "summary"
    return records


def test_a_replay_folder_is_answered_to_its_end_in_metres(shell: Shell, clip: Path) -> None:
    outcome = shell("run", "the red ball", "--camera", clip, "--json")
    assert outcome.code == 0, outcome.err
    *answers, summary = lines(outcome)
    assert [a["frame"]["id"] for a in answers] == list(range(FRAMES))
    assert (summary["answers"], summary["ended"]) == (FRAMES, "end_of_replay")
    assert {a["depth_source"] for a in answers} == {"sensor"}
    assert any(p["camera_m"] for a in answers for p in a["points"])


def test_a_replay_gives_the_same_answers_again(shell: Shell, clip: Path) -> None:
    first, second = (lines(shell("run", "the red ball", "--camera", clip, "--json"))[:-1] for _ in range(2))
    assert [(a["answer"], a["points"]) for a in first] == [(a["answer"], a["points"]) for a in second]


def test_enough_answers_end_the_run(shell: Shell, clip: Path) -> None:
    *answers, summary = lines(shell("run", "the cup", "--camera", clip, "--max-answers", 2, "--json"))
    assert (len(answers), summary["ended"]) == (2, "max_answers")


def test_the_jsonl_sink_holds_the_answers_and_a_person_reads_lines(shell: Shell, clip: Path, tmp_path: Path) -> None:
    outcome = shell("run", "the cup", "--camera", clip, "--sink", f"jsonl:{tmp_path / 'a.jsonl'}")
    kept = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [r["frame"]["id"] for r in kept] == list(range(FRAMES))
    assert "frame 0: point 1" in outcome.out
    assert outcome.out.splitlines()[-1].startswith(f"{FRAMES} answers ({FRAMES} valid)")


def test_the_software_device_goes_through_the_sdk(shell: Shell, clip: Path) -> None:
    pytest.importorskip("pyrealsense2")
    *answers, summary = lines(shell("run", "the cup", "--camera", f"software:{clip}", "--max-answers", 1, "--json"))
    assert answers[0]["frame"] | {"id": 0} == {"id": 0, "width": 320, "height": 240}
    assert summary["ended"] == "max_answers"


@pytest.mark.parametrize("name", ["copy", "copy.db3"])
def test_what_was_recorded_gives_the_answers_of_the_original(
    shell: Shell, clip: Path, tmp_path: Path, name: str
) -> None:
    if name.endswith(".db3"):
        pytest.importorskip("pyrealsense2")
    recorded = shell("record", tmp_path / name, "--camera", clip, "--frames", FRAMES, "--json")
    assert recorded.code == 0, recorded.err
    keeps_schema(recorded.last_json, "record")
    assert recorded.last_json["frames"] == FRAMES
    original = lines(shell("run", "the cup", "--camera", clip, "--json"))[:-1]
    replayed = lines(shell("run", "the cup", "--camera", tmp_path / name, "--json"))[:-1]
    assert [a["points"] for a in replayed] == [a["points"] for a in original]


@pytest.mark.real
def test_a_real_recording_agrees_with_the_sdk_to_a_millimetre(shell: Shell, real: Path) -> None:
    """One aligned pair of a real D435: our metres against rs.align and the SDK's own deprojection."""
    rs = pytest.importorskip("pyrealsense2")
    outcome = shell("run", "the cup", "--camera", real / "d435_640x480.bag", "--json")
    assert outcome.code == 0, outcome.err
    *answers, summary = lines(outcome)
    assert summary["answers"] == 1
    assert answers[0]["valid"]
    aligned_m, intrinsics = _aligned_by_the_sdk(rs, real / "d435_640x480.bag")
    lifted = [p for p in answers[0]["points"] if p["camera_m"]]
    assert lifted
    for point in lifted:
        u, v = point["px"]
        x, y, z = point["camera_m"]
        window = aligned_m[max(v - 10, 0) : v + 11, max(u - 10, 0) : u + 11]
        assert np.abs(window[window > 0] - z).min() <= 1e-3  # a depth the SDK sees there, not one of our making
        np.testing.assert_allclose((x, y, z), rs.rs2_deproject_pixel_to_point(intrinsics, [u, v], z), atol=1e-3)


def _aligned_by_the_sdk(rs, path: Path):
    pipeline, config = rs.pipeline(), rs.config()
    config.enable_device_from_file(str(path), repeat_playback=False)
    profile = pipeline.start(config)
    profile.get_device().as_playback().set_real_time(False)
    try:
        frames = rs.align(rs.stream.color).process(pipeline.wait_for_frames(5000))
        depth = frames.get_depth_frame()
        intrinsics = frames.get_color_frame().profile.as_video_stream_profile().get_intrinsics()
        return np.asarray(depth.get_data()).astype(np.float64) * depth.get_units(), intrinsics
    finally:
        pipeline.stop()


def test_a_full_disk_while_recording_leaves_the_old_clip(clip: Path, tmp_path: Path) -> None:
    """A real limit on file size stands for the full disk; the recording that was there stays playable."""
    out = tmp_path / "kept"
    command = [sys.executable, "-m", "edge_runtime.cli", "record", str(out), "--camera", str(clip), "--frames", "2"]
    assert subprocess.run(command, cwd=REPOSITORY, check=False, capture_output=True).returncode == 0
    before = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    limited = subprocess.run(
        command,
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert limited.returncode == 4, limited.stderr
    assert "cannot write" in limited.stderr
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_a_recording_never_replaces_something_else(shell: Shell, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.txt").write_text("years")
    outcome = shell("record", tmp_path / "thesis", "--camera", clip, "--frames", 1)
    assert outcome.code == 4
    assert "no recording" in outcome.err
    assert (tmp_path / "thesis/chapter1.txt").read_text() == "years"


def test_an_interrupted_run_says_so_and_leaves_with_130() -> None:
    """Ctrl-C reaches the process while it answers: the summary is still the last line."""
    pytest.importorskip("pyrealsense2")
    command = [sys.executable, "-m", "edge_runtime.cli", "run", "the cup", "--camera", "software", "--json"]
    child = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert child.stdout is not None
    assert json.loads(child.stdout.readline())["kind"] == "answer"
    child.send_signal(signal.SIGINT)
    rest, _ = child.communicate(timeout=60)
    assert json.loads(rest.splitlines()[-1])["ended"] == "interrupted"
    assert child.returncode == 130
