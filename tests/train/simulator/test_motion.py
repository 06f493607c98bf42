"""Clips: playable by the camera source, true in every frame, and moving."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hardware.camera.base import EndOfRecording
from hardware.camera.replay import ReplaySource
from hardware.frame import Frame
from train.simulator.motion import ClipConfig, clip_samples, draw_slides, write_clip
from train.simulator.placement import apart
from train.simulator.scene import SceneConfig, draw_scene
from train.simulator.shards import graph_from_json
from train.simulator.viewpoint import Lens
from train.spatial.scene_graph import TABLE_MASK

CONFIG = ClipConfig(frames=6, fps=10.0, lens=Lens(320, 240, 306.5), noisy=False, rgb_format="png")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, renderer) -> Path:
    out = tmp_path_factory.mktemp("clips") / "clip"
    assert write_clip(out, clip_samples(renderer, 5, CONFIG, SceneConfig()), seed=5, config=CONFIG) == 6
    return out


def frames(folder: Path) -> list[Frame]:
    source = ReplaySource(folder)
    count = source.open().frame_count
    assert count is not None
    found = [source.next_frame(1000) for _ in range(count)]
    with pytest.raises(EndOfRecording):
        source.next_frame(1000)
    return found


def truth(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]


def test_a_clip_plays_and_its_depth_is_true(clip: Path) -> None:
    played = frames(clip)
    assert len(played) == 6
    assert [frame.t_device_ms for frame in played] == pytest.approx([0, 100, 200, 300, 400, 500])
    for index, (frame, line) in enumerate(zip(played, truth(clip), strict=True)):
        mask = np.asarray(Image.open(clip / "mask" / f"{index:06d}.png")).astype(np.int32) - 1
        assert frame.depth_is_aligned
        graph = graph_from_json(line, mask, frame.depth_m())
        assert (frame.rgb_intrinsics.fx, frame.rgb_intrinsics.cx) == (graph.camera.fx, graph.camera.cx)
        table = graph.world_xyz_m[mask == TABLE_MASK][:, 2]
        assert np.nanpercentile(np.abs(table - graph.table.centre_m[2]), 99) < 1.5e-3  # counts of 1 mm
        for obj in graph.objects:
            own = (graph.world_xyz_m[mask == obj.mask_value] - obj.centre_m) @ obj.world_from_object
            assert (np.abs(own) <= obj.size_m / 2 + 2.5e-3).all(), obj.id


def test_camera_and_one_object_move_and_nothing_collides(clip: Path) -> None:
    first, last = truth(clip)[0], truth(clip)[-1]
    before, after = (np.array(line["camera"]["world_from_camera"])[:3, :3] for line in (first, last))
    turn = before.T @ after
    angle = np.degrees(np.arccos((np.trace(turn) - 1) / 2))
    assert angle == pytest.approx(25.0, abs=0.5)
    moved = [
        np.linalg.norm(np.subtract(a["centre_m"], b["centre_m"]))
        for a, b in zip(first["objects"], last["objects"], strict=True)
    ]
    assert sum(distance > 0.05 for distance in moved) == 1
    assert sum(distance < 1e-9 for distance in moved) == len(moved) - 1


def test_ways_keep_clear_of_everything() -> None:
    for seed in range(12):
        scene = draw_scene(np.random.default_rng(seed))
        for slide in draw_slides(np.random.default_rng(seed), scene, 2):
            posed = next(posed for posed in scene.objects if posed.id == slide.object_id)
            for share in np.linspace(0, 1, 40):
                here = slide.at(posed, share)
                hosts = [o for o in scene.objects if o.support == "table" and o.id != posed.id]
                assert all(apart(here.footprint, other.footprint, 0.0) for other in hosts)


def test_the_same_seed_gives_the_same_clip(renderer) -> None:
    config = ClipConfig(frames=2, lens=CONFIG.lens, noisy=True)
    a, b = (list(clip_samples(renderer, 5, config, SceneConfig())) for _ in range(2))
    assert all(np.array_equal(x.rgb, y.rgb) for x, y in zip(a, b, strict=True))
