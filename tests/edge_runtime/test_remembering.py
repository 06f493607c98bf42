"""Asking about the same picture again: what was read is not read again, and the answer is the same."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.bundle import default_bundle
from edge_runtime.decoder_kept import after_rows, common_rows, rows_of
from edge_runtime.encoders import Encoders
from edge_runtime.errors import InstructionError
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import DecoderSegment, EmbedSegment, MetricDepth, TokenSegment, View
from hardware.camera.open import open_camera, shipped_clip

QUESTIONS = ("Point to the blue cup.", "Point to the purple shoe nearest to the cup.", "the toy plane")


@pytest.fixture(scope="module")
def views() -> list[View]:
    with open_camera(str(shipped_clip())) as camera:
        frames = [camera.read() for _ in range(2)]
    return [View(rgb=f.rgb, depth=MetricDepth(f.depth_m()), intrinsics=f.rgb_intrinsics) for f in frames]


@pytest.fixture
def pipeline() -> Iterator[Pipeline]:
    with Pipeline.open(default_bundle(), n_threads=1, remembers=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def forgetful() -> Iterator[Pipeline]:
    with Pipeline.open(default_bundle(), n_threads=1) as opened:
        yield opened


def test_the_same_answers_as_without(pipeline: Pipeline, forgetful: Pipeline, views: list[View]) -> None:
    for number, (view, question) in enumerate((v, q) for v in (*views, views[0]) for q in QUESTIONS):
        again, fresh = pipeline.refer([view], question), forgetful.refer([view], question)
        assert again.answer == fresh.answer
        assert again.points[0].confidence == pytest.approx(fresh.points[0].confidence, abs=0.03)
        expected = ("preprocess", "rgb_encoder", "depth_encoder", "prefill") if number % len(QUESTIONS) else ()
        assert tuple(again.reused) == expected
        assert fresh.reused == ()


def test_encoders_run_once_for_a_picture(
    monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, views: list[View]
) -> None:
    runs: list[str] = []
    original = Encoders.encode

    def counted(encoders, modality, tiles):
        runs.append(modality)
        return original(encoders, modality, tiles)

    monkeypatch.setattr(Encoders, "encode", counted)
    for question in QUESTIONS:
        pipeline.refer([views[0]], question)
    assert runs == ["image", "depth"]


def test_one_changed_byte_is_another_picture(pipeline: Pipeline, views: list[View]) -> None:
    pipeline.refer([views[0]], QUESTIONS[0])
    rgb = views[0].rgb.copy()
    rgb[-1, -1, 0] ^= 1
    assert pipeline.refer([replace(views[0], rgb=rgb)], QUESTIONS[0]).reused == ()
    assert views[0].depth is not None
    depth_m = views[0].depth.depth_m.copy()  # type: ignore[union-attr]
    depth_m[0, 0] = 0.77
    assert pipeline.refer([View(rgb=rgb, depth=MetricDepth(depth_m))], QUESTIONS[0]).reused == ()
    assert pipeline.refer([View(rgb=rgb)], QUESTIONS[0]).reused == ()


def test_a_refused_question_leaves_nothing_wrong_behind(
    pipeline: Pipeline, forgetful: Pipeline, views: list[View]
) -> None:
    pipeline.refer([views[0]], QUESTIONS[0])
    with pytest.raises(InstructionError):
        pipeline.refer([views[0]], "mug " * 50_000)
    assert pipeline.refer([views[0]], QUESTIONS[1]).answer == forgetful.refer([views[0]], QUESTIONS[1]).answer


def test_rows_that_are_common() -> None:
    tokens = [TokenSegment(np.array(ids, np.int32)) for ids in ([1, 2, 3], [4, 5])]
    picture, other = (EmbedSegment(np.full((7, 4), value, np.float32)) for value in (0.5, 0.25))
    kept = rows_of([tokens[0], picture, tokens[1]])
    assert common_rows(kept, rows_of([tokens[0], picture, tokens[1]])) == 3 + 7 + 1, "the last row is always read"
    assert common_rows(kept, rows_of([tokens[0], other, tokens[1]])) == 3
    assert common_rows(kept, rows_of([TokenSegment(np.array([1, 9], np.int32)), picture])) == 1
    assert common_rows(kept, rows_of([picture])) == common_rows([], kept) == 0


def test_what_is_left_to_read() -> None:
    head, picture = TokenSegment(np.array([1, 2, 3], np.int32)), EmbedSegment(np.zeros((7, 4), np.float32))
    whole: list[DecoderSegment] = [head, picture, TokenSegment(np.array([4, 5], np.int32))]
    assert [len(rows_of([segment])) for segment in after_rows(whole, 0)] == [3, 1, 2]
    left = after_rows(whole, 2)
    assert left[0].ids.tolist() == [3]  # type: ignore[union-attr]
    assert left[1] is picture
    assert after_rows(whole, 11)[0].ids.tolist() == [5]  # type: ignore[union-attr]
