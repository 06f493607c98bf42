"""Confidence, timing, drawing and the checks on views: small pieces with exact expectations."""

import numpy as np
import pytest

from edge_runtime.annotate import annotated
from edge_runtime.confidence import span_confidence
from edge_runtime.errors import DepthError
from edge_runtime.metrics import STAGES, StageTimer
from edge_runtime.records import Generation, MetricDepth, PointedAt, PointM, RelativeDepth, View
from tests.fakes import EchoReferrer


def generation(pieces: list[tuple[str, float]]) -> Generation:
    text, ends = "", []
    for piece, _ in pieces:
        text += piece
        ends.append(len(text))
    return Generation(
        text=text,
        token_ids=tuple(range(len(pieces))),
        token_probs=tuple(p for _, p in pieces),
        token_ends=tuple(ends),
        stopped=True,
        prompt_tokens=1,
        prefill_ms=0.0,
        decode_ms=0.0,
    )


def test_confidence_is_the_geometric_mean_under_the_span() -> None:
    written = generation([("[(", 0.1), ("0.5", 0.9), (", ", 1.0), ("0.25", 0.4), (")]", 0.1)])
    assert span_confidence(written, (2, 11)) == pytest.approx((0.9 * 1.0 * 0.4) ** (1 / 3))


def test_tokens_without_text_and_outside_the_span_do_not_count() -> None:
    written = generation([("ab", 0.5), ("", 0.01), ("cd", 0.8)])
    assert span_confidence(written, (2, 4)) == pytest.approx(0.8)
    assert span_confidence(written, (9, 12)) == 0.0
    assert span_confidence(generation([("x", 0.0)]), (0, 1)) == pytest.approx(1e-12)


def test_stage_times_are_busy_times_and_the_total_is_wall_time() -> None:
    now = [10.0]
    timer = StageTimer(clock=lambda: now[0])
    with timer.stage("preprocess"):
        now[0] += 0.002
    now[0] += 1.0  # nobody's time
    with timer.stage("preprocess"):
        now[0] += 0.003
    timer.add("decode", 7.0)
    times = timer.timings_ms()
    assert times["preprocess"] == pytest.approx(5.0)
    assert times["decode"] == 7.0
    assert times["total"] == pytest.approx(1005.0)
    assert set(times) == {*STAGES, "total"}


def test_a_failing_stage_is_timed_all_the_same() -> None:
    now = [0.0]
    timer = StageTimer(clock=lambda: now[0])
    with pytest.raises(RuntimeError), timer.stage("parse"):
        now[0] += 0.004
        raise RuntimeError
    assert timer.timings_ms()["parse"] == pytest.approx(4.0)


def test_metric_depth_must_have_the_pictures_size() -> None:
    rgb = np.zeros((48, 64, 3), np.uint8)
    with pytest.raises(DepthError, match=r"32x24, the picture is 64x48"):
        View(rgb, MetricDepth(np.ones((24, 32), np.float32)))
    assert View(rgb, RelativeDepth(np.zeros((24, 32, 3), np.uint8))).depth is not None


@pytest.mark.parametrize("px", [(0, 0), (63, 47), (0, 47), (63, 0), (32, 24)])
def test_marks_stay_in_the_picture_even_at_its_border(px: tuple[int, int]) -> None:
    rgb = np.full((48, 64, 3), 90, np.uint8)
    answer = EchoReferrer().refer([View(rgb)], "x")
    point = PointedAt((px[0] / 64, px[1] / 48), px, PointM((0.0, 0.0, 0.5)), 0.5)
    drawn = np.asarray(annotated(rgb, answer.__class__(**{**answer.__dict__, "points": (point,)}), "the cup " * 30))
    assert drawn.shape == rgb.shape
    changed = np.argwhere((drawn != rgb).any(axis=-1))
    nearest = np.abs(changed - [px[1], px[0]]).max(axis=1).min()
    assert nearest <= 6
