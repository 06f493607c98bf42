"""`calibrate` on a recorded clip of a drawn board: the printed pose is the true one, and mistakes are named."""

import io
import json
from pathlib import Path

import numpy as np
import pytest

from hardware.calibration import read_base_from_camera
from hardware.camera.replay_writer import ReplayWriter
from hardware.frame import Extrinsics, Frame
from tests.flow.command_line import Shell, keeps_schema
from tests.hardware.drawn_board import CAMERA, apart, draw, robot

ROBOT = robot("eye-to-hand", stops=9)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine stops of the robot, and one at which the hand was away."""
    folder = tmp_path_factory.mktemp("stops") / "clip"
    pictures = [draw(ROBOT.camera_from_board(stop)) for stop in range(len(ROBOT.base_from_hand))]
    pictures.insert(4, np.full((480, 640, 3), 90, np.uint8))
    with ReplayWriter(folder) as writer:
        for number, rgb in enumerate(pictures):
            depth = np.full((480, 640), 500, np.uint16)
            times = {"t_capture_ns": number * 10**9, "t_device_ms": number * 1e3}
            writer.write(Frame(rgb, depth, 0.001, CAMERA, CAMERA, Extrinsics(), number, **times))  # type: ignore[arg-type]
        writer.finish()
    hands = [json.dumps(hand.tolist()) for hand in ROBOT.base_from_hand]
    hands.insert(4, hands[3])
    (folder.parent / "poses.jsonl").write_text("\n".join(hands) + "\n")
    return folder


def test_the_camera_is_found_on_a_recorded_clip(shell: Shell, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "camera.json"
    poses = clip.parent / "poses.jsonl"
    outcome = shell("calibrate", out, "--camera", clip, "--poses", poses, "--json")
    assert outcome.code == 0, outcome.err
    keeps_schema(outcome.last_json, "calibrate")
    assert outcome.last_json["poses"] == 9  # the tenth did not show the board
    assert outcome.last_json["warnings"] == []
    off_mm, off_deg = apart(read_base_from_camera(out), ROBOT.camera)
    assert off_mm < 0.5
    assert off_deg < 0.05


def test_poses_may_come_from_the_robots_own_program(
    shell: Shell, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("null\n" * 3 + (clip.parent / "poses.jsonl").read_text()[:20]))
    outcome = shell("calibrate", tmp_path / "camera.json", "--camera", clip)
    assert (outcome.code, outcome.out) == (2, "")
    assert "not a hand pose" in outcome.err
    assert not (tmp_path / "camera.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--setup", "eye-on-wall"], "available: eye-in-hand, eye-to-hand"),
        (["--squares", "7"], "columns x rows"),
        (["--poses", "/nowhere"], "cannot read hand poses"),
        (["--marker-mm", "50"], "measure both"),
    ],
)
def test_mistakes_are_named(shell: Shell, clip: Path, tmp_path: Path, arguments: list[str], words: str) -> None:
    outcome = shell("calibrate", tmp_path / "x.json", "--camera", clip, *arguments)
    assert outcome.code == 2
    assert words in outcome.err


def test_a_board_to_print(shell: Shell, tmp_path: Path) -> None:
    outcome = shell("calibrate", "--print-board", tmp_path / "board.png", "--square-mm", 20, "--marker-mm", 15)
    assert outcome.code == 0, outcome.err
    assert "140 x 100 mm" in outcome.out
    assert (tmp_path / "board.png").stat().st_size > 1000
    assert shell("calibrate").code == 2
    outcome = shell("calibrate", "--print-board", tmp_path / "board.doc")
    assert outcome.code == 2
    assert "the endings known" in outcome.err
    assert shell("calibrate", "--print-board", tmp_path / "board").code == 0  # without an ending: PNG
