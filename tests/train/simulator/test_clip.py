"""The demo's clip: the same again from its seed, a closed round, and a truth that holds in every frame."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hardware.camera.open import shipped_clip
from hardware.camera.replay import open_recording
from train.simulator import clip
from train.simulator.sample import Sample

SEED = int(json.loads((shipped_clip() / "intrinsics.json").read_text())["name"].split()[-1])


@pytest.fixture(scope="module")
def rendered() -> list[Sample]:
    return clip.render_clip(SEED)


def test_the_shipped_clip_comes_from_its_seed(rendered: list[Sample], tmp_path: Path) -> None:
    """Bytes depend on the OpenGL at hand, so another machine's pictures may differ a little at edges."""
    clip.write_frames(tmp_path / "again", rendered, SEED)
    shipped, again = open_recording(shipped_clip()), open_recording(tmp_path / "again")
    assert again.geometry == shipped.geometry
    assert again.t_ms == shipped.t_ms
    for name, limit in (("rgb", 3.0), ("depth", 40.0)):  # 8-bit levels; counts of 1 mm, holes counting in full
        for ours, theirs in zip(getattr(shipped, name), getattr(again, name), strict=True):
            a, b = (np.asarray(Image.open(path)).astype(np.float64) for path in (ours, theirs))
            assert np.abs(a - b).mean() < limit, f"{ours}: run `make demo-clip`"


def test_the_same_seed_gives_the_same_bytes(rendered: list[Sample], tmp_path: Path) -> None:
    clip.write_frames(tmp_path / "one", rendered[:3], SEED)
    clip.write_frames(tmp_path / "two", clip.render_clip(SEED)[:3], SEED)
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "one", tmp_path / "two")
    )
    assert one == two


def test_the_camera_goes_round_in_even_steps(rendered: list[Sample]) -> None:
    """From the last frame to the first is a step like any other, so that a loop shows no jump."""
    eyes = np.array([sample.graph.camera.world_from_camera[:3, 3] for sample in rendered])
    steps = np.linalg.norm(np.roll(eyes, -1, axis=0) - eyes, axis=1)
    assert steps[-1] < 1.2 * steps[:-1].max()
    assert steps.min() > 0.002
    assert steps.max() < 0.06


def test_the_scene_is_held_out_and_stands_still(rendered: list[Sample]) -> None:
    assert clip.SCENES.held_out
    assert len({sample.surface for sample in rendered}) == 1
    places = np.array([[obj.centre_m for obj in sample.graph.objects] for sample in rendered])
    assert (places == places[0]).all()


def test_the_truth_holds_in_every_frame(
    rendered: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip, "_PER_TASK", 8)
    asked = list(clip.questions(rendered, SEED))
    assert {one.question.task for one in asked} == {"location", "placement"}
    for one in asked:
        assert one.masks.shape == (len(rendered), 480, 640)
        assert one.masks.any((1, 2)).all()
        assert one.question.target_px is not None
        u, v = one.question.target_px
        assert one.masks[0, v, u]
        np.testing.assert_array_equal(one.masks[0], one.question.mask)
        if one.question.target_id is not None:
            for sample, mask in zip(rendered, one.masks, strict=True):
                (target,) = (obj for obj in sample.graph.objects if obj.id == one.question.target_id)
                np.testing.assert_array_equal(mask, sample.graph.instance_mask == target.mask_value)
    clip.write_truth(tmp_path / "truth.npz", asked)
    with np.load(tmp_path / "truth.npz") as file:
        np.testing.assert_array_equal(np.unpackbits(file["masks"], axis=-1), np.stack([one.masks for one in asked]))
        assert [str(text) for text in file["instructions"]] == [one.instruction for one in asked]


def test_an_instruction_without_a_known_answer_is_refused(
    rendered: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(clip, "_PER_TASK", 3)
    monkeypatch.setattr(clip, "render_clip", lambda seed: rendered)
    code = clip.main(
        [str(tmp_path / "clip"), "--seed", str(SEED), "--truth", str(tmp_path / "t.npz"), "--ask", "Point to Mars."]
    )
    assert code == 2
    assert "Point to Mars." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
