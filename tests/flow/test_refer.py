"""`refer`: one picture in, points out, as JSON that keeps its schema and as a picture a person can look at."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edge_runtime.bundle import shipped_bundle
from edge_runtime.prompt import POINT_SUFFIX
from tests.flow.command_line import Shell, keeps_schema


def test_json_keeps_its_schema_and_metres_follow_the_pinhole(shell: Shell, picture: Path) -> None:
    outcome = shell(
        "refer", picture / "rgb.png", "the red cup", "--depth", picture / "depth.png",
        "--intrinsics", picture / "K.json", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    answer = outcome.last_json
    keeps_schema(answer, "refer")
    assert answer["valid"]
    assert answer["depth_source"] == "file"
    for point in answer["points"]:
        u, v = point["px"]
        x, y = point["norm"]
        assert (u, v) == (min(int(x * 160), 159), min(int(y * 120), 119))
        expected = [(u - 79.5) / 150 * 0.8, (v - 59.5) / 150 * 0.8, 0.8]
        np.testing.assert_allclose(point["camera_m"], expected, atol=1e-4)


def test_without_depth_there_are_no_metres_and_a_reason(shell: Shell, picture: Path) -> None:
    answer = shell("refer", picture / "rgb.png", "the red cup", "--json").last_json
    assert answer["depth_source"] == "none"
    assert {p["depth_reason"] for p in answer["points"]} == {"no_depth"}
    assert all(p["camera_m"] is None for p in answer["points"])


def test_8_bit_depth_is_asked_with_but_gives_no_metres(shell: Shell, picture: Path, tmp_path: Path) -> None:
    Image.open(picture / "rgb.png").convert("L").save(tmp_path / "near_is_bright.png")
    answer = shell(
        "refer", picture / "rgb.png", "the cup", "--depth", tmp_path / "near_is_bright.png",
        "--intrinsics", picture / "K.json", "--json",
    ).last_json  # fmt: skip
    assert {p["depth_reason"] for p in answer["points"]} == {"relative_depth"}
    assert answer["timings_ms"]["depth_encoder"] > 0


def test_depth_without_intrinsics_says_so(shell: Shell, picture: Path) -> None:
    answer = shell("refer", picture / "rgb.png", "the cup", "--depth", picture / "depth.png", "--json").last_json
    assert {p["depth_reason"] for p in answer["points"]} == {"no_intrinsics"}


def test_points_also_in_the_base_frame(shell: Shell, picture: Path, tmp_path: Path) -> None:
    turned = [[0, 0, 1, 0.5], [-1, 0, 0, 0.0], [0, -1, 0, 0.3], [0, 0, 0, 1]]
    (tmp_path / "base.json").write_text(json.dumps({"base_from_camera": turned}))
    answer = shell(
        "refer", picture / "rgb.png", "the cup", "--depth", picture / "depth.png", "--intrinsics", picture / "K.json",
        "--base-from-camera", tmp_path / "base.json", "--json",
    ).last_json  # fmt: skip
    for point in answer["points"]:
        x, y, z = point["camera_m"]
        np.testing.assert_allclose(point["base_m"], [z + 0.5, -x, -y + 0.3], atol=1e-4)


def test_the_picture_shows_every_point(shell: Shell, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/annotated.png"
    outcome = shell("refer", picture / "rgb.png", "the red cup", "--out", out)
    assert outcome.code == 0, outcome.err
    assert str(out) in outcome.out
    before, after = np.asarray(Image.open(picture / "rgb.png")), np.asarray(Image.open(out))
    assert before.shape == after.shape
    assert (before != after).any(axis=-1).mean() > 0.01


def test_the_same_question_has_the_same_answer(shell: Shell, picture: Path) -> None:
    first, second = (shell("refer", picture / "rgb.png", "the cup", "--json").last_json for _ in range(2))
    assert first["answer"] == second["answer"]
    assert first["points"] == second["points"]


def test_raw_text_is_free_text_and_the_typed_suffix_asks_for_points(shell: Shell, picture: Path) -> None:
    free = shell("refer", picture / "rgb.png", "how many cups?", "--raw-prompt", "--json").last_json
    asked = shell("refer", picture / "rgb.png", f"the cup {POINT_SUFFIX}", "--raw-prompt", "--json").last_json
    usual = shell("refer", picture / "rgb.png", "the cup", "--json").last_json
    assert (free["kind"], free["points"]) == ("text", [])
    assert asked["kind"] == "points"
    assert (asked["answer"], asked["tokens"]) == (usual["answer"], usual["tokens"])


def test_an_answer_below_the_asked_confidence_is_exit_5(shell: Shell, picture: Path) -> None:
    outcome = shell("refer", picture / "rgb.png", "the cup", "--min-confidence", "1.0", "--json")
    assert outcome.code == 5
    assert outcome.last_json["valid"]
    assert "confidence" in outcome.err


def test_without_grammar_a_trained_model_writes_a_point_all_the_same(shell: Shell, picture: Path) -> None:
    outcome = shell("refer", picture / "rgb.png", "the cup", "--no-grammar", "--json")
    assert outcome.code == 0
    assert outcome.last_json["points"]


def test_which_bundle_answers_is_the_environments_choice(
    shell: Shell, picture: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROBOREFER_BUNDLE", str(tmp_path / "elsewhere"))
    assert shell("refer", picture / "rgb.png", "the cup").code == 3
    assert shell("refer", picture / "rgb.png", "the cup", "--bundle", shipped_bundle()).code == 0


def test_a_person_gets_pixels_metres_and_time(shell: Shell, picture: Path) -> None:
    outcome = shell(
        "refer", picture / "rgb.png", "the cup", "--depth", picture / "depth.png", "--intrinsics", picture / "K.json"
    )
    assert "point 1  px (" in outcome.out
    assert " m  confidence" in outcome.out
    assert " ms (" in outcome.out


@pytest.mark.real
def test_a_real_photo(shell: Shell, real: Path, tmp_path: Path) -> None:
    outcome = shell(
        "refer", real / "tabletop.jpg", "the apple in front of the leftmost cup", "--out", tmp_path / "a.png", "--json"
    )
    assert outcome.code == 0, outcome.err
    answer = outcome.last_json
    keeps_schema(answer, "refer")
    assert answer["valid"]
    assert answer["points"]
