"""Run a bundle's golden cases through the robot's own stages and say how far each stage is off.

Used by `check` on the robot and by `export` before a bundle is put in place, so both mean the same by "agrees".
It decides nothing: limits are the manifest's, the verdict is the caller's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.decoder_sequence import KvType
from edge_runtime.golden import GoldenCase
from edge_runtime.golden_encoders import encoder_errors
from edge_runtime.pipeline import Pipeline
from edge_runtime.prompt import parts_of
from edge_runtime.records import F32, I32, DecoderSegment, EmbedSegment, Modality, ViewTiles

# The same pixels come out of the same code; a difference means another Pillow.
PIXEL_LIMIT = 1e-5

# Rounding may turn round a choice between two logits closer than this. F32 decoders are off by 1e-5 or so.
MARGIN_F32 = 1e-3
MARGIN_F16 = 0.1


@dataclass(frozen=True)
class CaseResult:
    """How one golden case went."""

    name: str
    errors: Mapping[str, float]  # stage -> max|found - golden| / max|golden|
    prompt_equal: bool  # text and token ids, exactly
    tokens: int  # greedy tokens compared
    same_tokens: int  # of them, how many this bundle prefers too
    flips: tuple[int, ...]  # steps where another token won although the margin allows no doubt

    @property
    def same_text(self) -> bool:
        """Whether greedy decoding writes the golden tokens, doubtful steps aside."""
        return self.prompt_equal and not self.flips


def decoder_precision(bundle: Bundle) -> tuple[KvType, float]:
    """KV cache type and margin for a fair comparison: exact for an F32 decoder, else as on the robot."""
    return ("f32", MARGIN_F32) if bundle.manifest.recipe == "fp32" else ("f16", MARGIN_F16)


def doubtful_margin(bundle: Bundle, case: GoldenCase) -> float:
    """Margin below which a step of a case may turn out otherwise.

    The golden values of a quantized bundle are its full-precision parent's. An error of e on every logit can turn round
    a choice between two that are 2 e apart, so what its tolerance allows for the logits decides.
    """
    _, rounding = decoder_precision(bundle)
    tolerance = bundle.manifest.tolerances.get("decoder_logits")
    if bundle.manifest.lineage.parent_sha256 is None or tolerance is None:
        return rounding
    return max(rounding, 2.0 * tolerance.limit * case.logits.scale)


def run_case(pipeline: Pipeline, case: GoldenCase, *, doubtful_margin: float) -> CaseResult:
    """Run one case, teacher-forced, and compare every stage.

    Args:
        pipeline: An opened pipeline with the manifest's own tile budget.
        case: What to ask and what to expect.
        doubtful_margin: Steps whose two best logits are closer than this are not held against the decoder.

    Raises:
        InferenceError: Native code failed.
        InstructionError: The case does not fit the context.
    """
    parts = parts_of([case.view], case.instruction)
    images, depths = pipeline.tiles(parts)
    prompt = pipeline.prompt(parts, images, depths)
    views: dict[Modality, list[ViewTiles]] = {"image": images, "depth": depths}
    errors = {"preprocess": max(_pixel_errors(case, views), default=0.0)}
    blocks: dict[Modality, list[F32]] = {"image": [], "depth": []}
    for modality in case.embeds:
        blocks[modality] = pipeline.encoders.encode(modality, views[modality])
        errors |= encoder_errors(pipeline.encoders, pipeline.bundle, case, modality, views[modality], blocks[modality])
    segments = pipeline.decoder_segments(prompt, blocks["image"], blocks["depth"])
    logits = pipeline.decoder.logits(segments, case.greedy_ids.tolist())
    errors["decoder_logits"] = case.logits.relative_error(logits)
    return CaseResult(
        name=case.name,
        errors=errors,
        prompt_equal=prompt.text == case.prompt_text and _ids_equal(case, segments, pipeline.bundle),
        tokens=len(case.greedy_ids),
        same_tokens=int((logits.argmax(axis=-1) == case.greedy_ids).sum()),
        flips=flips(case, logits, doubtful_margin),
    )


def flips(case: GoldenCase, logits: F32, doubtful_margin: float) -> tuple[int, ...]:
    """Steps at which teacher-forced logits [n, V] prefer another token than the golden one beyond doubt."""
    differ = logits.argmax(axis=-1) != case.greedy_ids
    return tuple(int(i) for i in np.flatnonzero(differ & (case.margins > doubtful_margin)))


def _pixel_errors(case: GoldenCase, views: Mapping[Modality, list[ViewTiles]]) -> Iterator[float]:
    for modality, golden in case.pixels.items():
        yield golden.relative_error(np.concatenate([view.pixels for view in views[modality]]))


def _ids_equal(case: GoldenCase, segments: list[DecoderSegment], bundle: Bundle) -> bool:
    """Compare token ids; golden ones hold one placeholder per block, ours the newline that follows a block."""
    return np.array_equal(_without_media(case.prompt_ids, bundle), _without_blocks(segments))


def _without_media(ids: I32, bundle: Bundle) -> I32:
    tokens = bundle.manifest.tokens
    media = [tokens.special[name] for name in (tokens.image, tokens.depth) if name is not None]
    kept: I32 = ids[~np.isin(ids, media)]
    return kept


def _without_blocks(segments: list[DecoderSegment]) -> I32:
    runs: list[I32] = []
    after_block = False
    for segment in segments:
        if isinstance(segment, EmbedSegment):
            after_block = True
            continue
        runs.append(segment.ids[1:] if after_block else segment.ids)
        after_block = False
    return np.concatenate(runs)
