"""End to end on calibration questions: does the quantized bundle answer what its full-precision parent answers?

The parent's answer is the yardstick. Teacher-forced on it, the quantized bundle's own encoders and decoder give a
distribution for every answer token, compared with the parent's: the same first choice, and the Kullback-Leibler
divergence. Written freely, its points are compared with the parent's, in pixels of a 640x480 picture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_runtime.bundle import DECODER, Bundle
from edge_runtime.decoder import Decoder
from edge_runtime.golden_run import decoder_precision
from edge_runtime.grammar import points_grammar
from edge_runtime.native_check import decoder_verdict
from edge_runtime.parse import parse_points
from edge_runtime.pipeline import Pipeline
from edge_runtime.prompt import parts_of
from edge_runtime.records import F32, F64, DecoderSegment, View
from quantize.calibration import CalibrationSet
from quantize.prompts import ANSWER_TOKENS, CalibrationPrompt

PICTURE_PX: Final = (640, 480)  # what shifts are stated for


@dataclass(frozen=True)
class AnswerDrift:
    """How one answer changed."""

    question: str
    tokens: int  # of the parent's answer
    same_tokens: int  # of them, how many are the quantized bundle's first choice too
    kl_nats: float  # mean over the answer tokens, parent against quantized
    identical: bool  # the same text, written freely
    shift_px: float | None  # largest distance between points of the same rank; None: not as many points, or none


def answer_drifts(
    parent: Bundle, quantized: Bundle, calibration: CalibrationSet, prompts: Sequence[CalibrationPrompt]
) -> tuple[AnswerDrift, ...]:
    """Compare the answers of two bundles.

    Args:
        parent: The full-precision bundle.
        quantized: Made from it; staged or finished.
        calibration: The questions.
        prompts: The same as the parent's decoder got them, with the parent's answers.

    Raises:
        InferenceError: A native library failed.
    """
    return tuple(_drifts(parent, quantized, calibration, prompts))


def percentile(values: Sequence[float], q: float) -> float | None:
    """The value that a share of them does not exceed; None of nothing."""
    return float(np.percentile(values, q)) if values else None


def _drifts(
    parent: Bundle, quantized: Bundle, calibration: CalibrationSet, prompts: Sequence[CalibrationPrompt]
) -> Iterator[AnswerDrift]:
    kv_type, _ = decoder_precision(quantized)
    verdict = decoder_verdict(parent.file(DECODER))
    reference = Decoder.open(
        parent.file(DECODER), stop_ids=parent.manifest.tokens.stop, use_extra_bufts=verdict.use_extra_bufts
    )
    with reference, Pipeline.of_bundle(quantized, kv_type=kv_type) as pipeline:
        for (question, view), prompt in zip(calibration, prompts, strict=True):
            segments = _segments(pipeline, view, question.instruction)
            expected = reference.logits(prompt.segments, prompt.answer_ids)
            found = pipeline.decoder.logits(segments, prompt.answer_ids)
            grammar = points_grammar() if prompt.wants_points else None
            written = pipeline.decoder.generate(segments, max_tokens=ANSWER_TOKENS, grammar=grammar)
            yield AnswerDrift(
                question=question.name,
                tokens=len(prompt.answer_ids),
                same_tokens=int((expected.argmax(axis=-1) == found.argmax(axis=-1)).sum()),
                kl_nats=float(divergence(expected, found).mean()),
                identical=written.text == prompt.answer_text,
                shift_px=shift_px(prompt.answer_text, written.text) if prompt.wants_points else None,
            )


def _segments(pipeline: Pipeline, view: View, instruction: str) -> list[DecoderSegment]:
    parts = parts_of([view], instruction)
    images, depths = pipeline.tiles(parts)
    blocks = pipeline.encoders.encode("image", images), pipeline.encoders.encode("depth", depths)
    return pipeline.decoder_segments(pipeline.prompt(parts, images, depths), *blocks)


def divergence(expected: F32, found: F32) -> F64:
    """Kullback-Leibler divergence of each row of logits [n, V], in nats."""
    p, q = (_log_softmax(logits) for logits in (expected, found))
    kl: F64 = (np.exp(p) * (p - q)).sum(axis=-1)
    return np.maximum(kl, 0.0)


def shift_px(before: str, after: str) -> float | None:
    """Largest distance between points of the same rank in two answers; None if their numbers differ or are zero."""
    first, second = (parse_points(text, complete=True).points for text in (before, after))
    if len(first) != len(second) or not first:
        return None
    width, height = PICTURE_PX
    return max(float(np.hypot((a.x - b.x) * width, (a.y - b.y) * height)) for a, b in zip(first, second, strict=True))


def _log_softmax(logits: F32) -> F64:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    log_p: F64 = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return log_p
