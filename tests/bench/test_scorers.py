"""Scorers: upstream's against its recorded outputs, ours against what the robot does with an answer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.answers import AnswerLine
from bench.samples import Bools
from bench.scorers import points_of_qwen, score
from bench.upstream_scorer import PixelBox, UpstreamParseError, upstream_boxes, upstream_score
from edge_runtime.image_files import decode_mask
from tests.conftest import SHARED

PIECES = SHARED / "golden" / "pieces"


def answer(text: str, **fields: Any) -> AnswerLine:
    return AnswerLine(0, "the cup", "cup", "", "the cup", text, "m", "image/0.png", "mask/0.png", split="S", **fields)


def pixels_of(boxes: list[PixelBox]) -> list[list[int]]:
    """Every pixel, row by row, in the order written."""
    return [[x, y] for box in boxes for y in range(box.y0, box.y1) for x in range(box.x0, box.x1)]


def disc() -> Bools:
    """The right half of a picture 100 wide, 37 high."""
    mask = np.zeros((37, 100), bool)
    mask[:, 50:] = True
    return mask


# --- upstream -------------------------------------------------------------------------------------------


@pytest.mark.reference
def test_upstream_reads_every_recorded_text_alike() -> None:
    cases = [c for c in json.loads((PIECES / "text2pts.json").read_text()) if not c["is_absolute"]]
    assert len(cases) > 90
    for case in cases:
        if "error" in case:
            with pytest.raises(UpstreamParseError):
                upstream_boxes(case["text"], case["width"], case["height"])
            continue
        boxes = upstream_boxes(case["text"], case["width"], case["height"])
        assert sum(box.count for box in boxes) == case["n"], case
        if "points" in case:
            assert pixels_of(boxes) == case["points"], case
        elif case["n"] < 10_000:
            pixels = pixels_of(boxes)
            assert pixels[:3] == case["points_first3"]
            assert pixels[-2:] == case["points_last2"]
            assert np.sum(pixels, axis=0).tolist() == case["sum"]


@pytest.mark.reference
def test_upstream_gives_the_recorded_accuracies() -> None:
    recorded = json.loads((PIECES / "compute_accuracy.json").read_text())
    found = []
    for one in recorded["answers"]:
        path = PIECES / "masks" / one["mask"]
        mask = decode_mask(path.read_bytes(), name=str(path))
        found.append(upstream_score(one["text"], mask))
        assert found[-1] == (None if one["accuracy"] is None else pytest.approx(one["accuracy"], abs=1e-12)), one
    evaluated = [value for value in found if value is not None]
    assert len(evaluated) == recorded["evaluated"]
    assert np.mean(evaluated) == pytest.approx(recorded["mean"], abs=1e-12)


def test_a_huge_box_costs_no_memory() -> None:
    assert upstream_score("(0, 0, 1000000, 1000000)", disc()) == pytest.approx(50 * 37 / (1e8 * 37e6))


@pytest.mark.parametrize("text", [f"({'9' * 400}.0, 0.5)", f"({'9' * 5000}, 1)"], ids=["infinite", "long"])
def test_numbers_that_the_reference_cannot_hold_leave_the_answer_out(text: str) -> None:
    assert upstream_score(text, disc()) is None


# --- strict ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "strict", "upstream"),
    [
        ("[(0.9, 0.5)]", 1.0, 1.0),
        ("[(0.1, 0.5)]", 0.0, 0.0),
        ("[(1.0, 1.0)]", 1.0, 0.0),  # the last pixel, and outside
        ("[(1, 0)]", 1.0, 0.0),  # the right upper corner, and the second pixel
        ("[(0.9, 0.5), (0.1, 0.5), (0.6, 0.1), (0.7, 0.2)]", 0.75, 0.75),
        ("<think>Step1: [Position] [cup]: [(0.1, 0.1)]</think><answer>[(0.9, 0.5)]</answer>", 1.0, 0.5),
    ],
)
def test_both_scores_of_readable_answers(text: str, strict: float, upstream: float) -> None:
    found = score(answer(text), disc())
    assert (found.strict, found.upstream, found.failure) == (strict, upstream, None)
    assert found.hit is (strict >= 0.5)


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("no answer", 0.0),
        ("", 0.0),
        ("[]", 0.0),
        ("[(1.5, 0.5)]", 0.0),
        ("[(0.9, 0.5), (1.5, 0.5)]", 0.5),
        ("[(75, 20)]", 1.0),  # pixels: the robot asked for shares
        ("<think>Step1: [Position] [cup]: [(0.9, 0.5)]", 1.0),
    ],
)
def test_what_the_robot_would_not_act_on_scores_nothing_and_is_counted(text: str, upstream: float) -> None:
    found = score(answer(text), disc())
    assert (found.strict, found.upstream) == (0.0, upstream)
    assert found.failure


def test_an_answer_its_subject_refused_scores_nothing() -> None:
    found = score(answer("[(0.9, 0.5), (0.8", valid=False, reason="the answer was cut"), disc())
    assert (found.strict, found.failure) == (0.0, "the answer was cut")


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ('```json\n[{"point_2d": [900, 500], "label": "cup"}]\n```', ((0.9, 0.5),)),
        ('{"point_2d": [0, 1000]}', ((0.0, 1.0),)),
        ('It is here: [{"point": [250, 250]}, {"point": [750.5, 1]}] I think.', ((0.25, 0.25), (0.7505, 0.001))),
        ('[1, 2] {"point_2d": [10, 20]}', ((0.01, 0.02),)),
        ('[{"point_2d": [1200, 500]}]', None),
        ('[{"point_2d": [1, 2, 3]}]', None),
        ('[{"point_2d": ["1", true]}]', None),
        ('[{"bbox_2d": [1, 2, 3, 4]}]', None),
        ('[{"point_2d": [12, ', None),
        ("[[[[", None),
        ("", None),
    ],
)
def test_points_in_thousandths(text: str, points: tuple[tuple[float, float], ...] | None) -> None:
    read = points_of_qwen(text)
    assert read.points == (points or ())
    assert (read.failure is None) is (points is not None)


def test_a_peers_answer_is_scored_in_its_own_style() -> None:
    text = '[{"point_2d": [900, 500]}]'
    assert score(answer(text), disc(), "qwen").strict == 1.0
    assert score(answer(text), disc()).failure


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "I;16"])
def test_masks_count_where_the_first_channel_is_not_zero(tmp_path: Path, mode: str) -> None:
    inside = np.zeros((20, 30), bool)
    inside[5:9, 7:20] = True
    if mode == "I;16":
        image = Image.fromarray(inside.astype(np.uint16))
    elif mode in ("RGB", "RGBA"):
        channels = [inside * 1, np.full((20, 30), 255), np.full((20, 30), 255), np.zeros((20, 30))]
        image = Image.fromarray(np.stack(channels[: len(mode)], axis=-1).astype(np.uint8))
    else:
        image = Image.fromarray(inside.astype(np.uint8) * (255 if mode == "1" else 1)).convert(mode)
    image.save(tmp_path / "mask.png")
    np.testing.assert_array_equal(decode_mask((tmp_path / "mask.png").read_bytes(), name="mask"), inside)
