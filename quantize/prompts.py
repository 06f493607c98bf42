"""Calibration prompts as the decoder gets them: text and embeddings in order, and the full-precision model's answer.

The parent bundle answers every calibration question once, through the robot's own pipeline. What it wrote is the text
that the decoder is watched on, and what a quantized decoder is compared with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from edge_runtime.bundle import Bundle
from edge_runtime.errors import DataError
from edge_runtime.golden_run import decoder_precision
from edge_runtime.grammar import points_grammar
from edge_runtime.pipeline import Pipeline
from edge_runtime.prompt import asks_for_points, parts_of
from edge_runtime.records import DecoderSegment, EmbedSegment, View
from quantize.calibration import CalibrationSet

ANSWER_TOKENS: Final = 128  # a point takes 14 to 18, a short line of reasoning about 100


@dataclass(frozen=True)
class CalibrationPrompt:
    """One question as the decoder gets it."""

    name: str
    segments: tuple[DecoderSegment, ...]
    answer_ids: tuple[int, ...]  # the parent's, greedily; at least one
    answer_text: str
    wants_points: bool

    @property
    def rows(self) -> int:
        """Rows of the prompt with its answer."""
        lengths = (len(s.embeds) if isinstance(s, EmbedSegment) else len(s.ids) for s in self.segments)
        return sum(lengths) + len(self.answer_ids)


def asked_prompts(parent: Bundle, calibration: CalibrationSet) -> tuple[CalibrationPrompt, ...]:
    """Ask the parent every calibration question.

    Raises:
        DataError: A question cannot be asked.
        InferenceError: A native library failed.
    """
    kv_type, _ = decoder_precision(parent)
    with Pipeline.of_bundle(parent, kv_type=kv_type) as pipeline:
        return tuple(_asked(pipeline, question.name, question.instruction, view) for question, view in calibration)


def most_rows(prompts: Sequence[CalibrationPrompt]) -> int:
    """Rows of the longest prompt."""
    return max(prompt.rows for prompt in prompts)


def _asked(pipeline: Pipeline, name: str, instruction: str, view: View) -> CalibrationPrompt:
    if not instruction.strip():
        raise DataError(f"{name} asks nothing; leave such entries out of the calibration data")
    parts = parts_of([view], instruction)
    images, depths = pipeline.tiles(parts)
    prompt = pipeline.prompt(parts, images, depths)
    blocks = pipeline.encoders.encode("image", images), pipeline.encoders.encode("depth", depths)
    segments = pipeline.decoder_segments(prompt, *blocks)
    wants_points = asks_for_points(instruction, pipeline.bundle.manifest.prompt)
    grammar = points_grammar() if wants_points else None
    answer = pipeline.decoder.generate(segments, max_tokens=ANSWER_TOKENS, grammar=grammar)
    return CalibrationPrompt(name, tuple(segments), answer.token_ids, answer.text, wants_points)
