"""Clips for trackers: the truth is true, each kind does what its name says, and the same seed gives the same clip."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hardware.camera.replay import open_recording, read_frame
from train.simulator.tracking_clips import write_clips
from train.simulator.tracking_scenes import KINDS

FRAMES = 12


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips")
    assert write_clips(out, 4, 3, frames=FRAMES) == 4
    return out


def truth(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "target.json").read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_where_the_target_is_said_to_show_depth_and_mask_show_it(clips: Path, kind: str) -> None:
    folder = clips / f"{kind}-000"
    told, recording = truth(folder), open_recording(folder)
    assert len(told["frames"]) == FRAMES
    for index, frame in enumerate(told["frames"]):
        if not frame["visible"]:
            continue
        u, v = (round(x) for x in frame["px"])
        mask = np.asarray(Image.open(folder / "mask" / f"{index:06d}.png"))
        assert mask[v, u] == told["target"]["label"]
        depth_m = read_frame(recording, index, id=index, t_capture_ns=0, t_device_ms=0.0).depth_m()
        near = depth_m[v - 3 : v + 4, u - 3 : u + 4]
        if np.isfinite(near).sum() > 10:
            assert np.nanmedian(near) == pytest.approx(frame["camera_m"][2], abs=0.02)


def test_each_kind_does_what_its_name_says(clips: Path) -> None:
    turned, moved = {}, {}
    for kind in KINDS:
        frames = truth(clips / f"{kind}-000")["frames"]
        poses = np.array([frame["world_from_camera"] for frame in frames])
        turn = poses[0, :3, :3].T @ poses[-1, :3, :3]
        turned[kind] = np.degrees(np.arccos((np.trace(turn) - 1) / 2))
        at = [pose[:3, :3] @ frame["camera_m"] + pose[:3, 3] for pose, frame in zip(poses, frames, strict=True)]
        moved[kind] = np.linalg.norm(at[-1] - at[0])
    assert turned["moving_camera"] > 12
    assert turned["moving_object"] < 10
    assert moved["moving_object"] > 0.03
    assert moved["moving_camera"] < 1e-4
    assert moved["occlusion"] < 1e-4
    shows = {kind: [frame["visible"] for frame in truth(clips / f"{kind}-000")["frames"]] for kind in KINDS}
    assert all(shows["moving_camera"])
    assert all(shows["moving_object"])
    assert not all(shows["occlusion"])
    assert shows["occlusion"][0]


def test_what_is_there_is_kept_and_the_same_seed_gives_the_same(clips: Path, tmp_path: Path) -> None:
    assert write_clips(clips, 4, 3, frames=FRAMES) == 0
    assert write_clips(tmp_path, 1, 3, frames=FRAMES) == 1
    one, two = clips / "moving_camera-000", tmp_path / "moving_camera-000"
    assert truth(one) == truth(two)
    assert (one / "rgb/000005.jpg").read_bytes() == (two / "rgb/000005.jpg").read_bytes()
    assert write_clips(tmp_path, 1, 4, frames=FRAMES) == 1  # another seed replaces it
