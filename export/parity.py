"""Does an exported bundle agree with the torch model it came from? Asked through the robot's own code.

Every golden case runs through preprocess, prompt, ONNX Runtime and llama.cpp as it will on the robot, and every
stage is compared with torch. The limits are fixed here; a bundle that breaks one is never put in place.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleInvalid
from edge_runtime.golden import GoldenCase
from edge_runtime.golden_run import PIXEL_LIMIT, CaseResult, decoder_precision, run_case
from edge_runtime.pipeline import Pipeline
from edge_runtime.prompt import parts_of
from export.bundle_manifest import DecoderDtype, StageError

_log = logging.getLogger(__name__)

# As data flows; the order of reports.
STAGES = ("preprocess", "rgb_tower", "rgb_projector", "depth_tower", "depth_projector", "decoder_logits")

ENCODER_LIMIT = 1e-3
# of the largest logit, teacher-forced; with an F16 file the KV cache is half precision too, as on the robot
DECODER_LIMITS: Mapping[DecoderDtype, float] = {"f32": 5e-4, "f16": 2e-2}


@dataclass(frozen=True)
class ParityReport:
    """How far a bundle is from its checkpoint."""

    stages: Mapping[str, StageError]
    tokens: int  # greedy tokens compared
    cases: tuple[str, ...]
    different_text: tuple[str, ...]  # cases whose prompt or greedy answer differs beyond doubt

    @property
    def broken(self) -> tuple[str, ...]:
        """What fails, in words; empty if the bundle may be used."""
        over = [
            f"{stage} is off by {e.measured:.2e} (limit {e.limit:.0e})"
            for stage, e in self.stages.items()
            if not e.measured <= e.limit
        ]
        return (*over, *(f"case {name!r} reads differently" for name in self.different_text))

    def require(self) -> None:
        """Raise unless everything is within its limit.

        Raises:
            BundleInvalid: Names what is broken.
        """
        if self.broken:
            raise BundleInvalid(
                f"the exported bundle does not agree with its checkpoint: {'; '.join(self.broken)}. Nothing was "
                "written. If an F16 decoder is off, export with --decoder-dtype f32; else report the checkpoint."
            )

    def to_json(self) -> dict[str, dict[str, float]]:
        """The `parity` object of `export --json`."""
        return {stage: {"max_rel_error": e.measured, "limit": e.limit} for stage, e in self.stages.items()}


def check_parity(bundle: Bundle, cases: Sequence[GoldenCase], *, decoder_dtype: DecoderDtype) -> ParityReport:
    """Run golden cases through a bundle.

    Args:
        bundle: Opened, or staged and not yet checked.
        cases: What torch computed, best with whole arrays.
        decoder_dtype: Of the bundle's decoder; decides the limits.

    Raises:
        InferenceError: A native library fails on the bundle's files.
        BundleInvalid: A native library cannot load them.
    """
    kv_type, margin = decoder_precision(bundle)
    # An 8B reads a picture's rows for minutes: the second question of a case finds what the first one computed.
    with Pipeline.of_bundle(bundle, kv_type=kv_type, remembers=True) as pipeline:
        results, freely = [], []
        for case in cases:
            results.append(run_case(pipeline, case, doubtful_margin=margin))
            freely.append(_writes_the_same(pipeline, case, margin))
    report = ParityReport(
        stages=dict(_stage_errors(results, decoder_dtype)),
        tokens=sum(result.tokens for result in results),
        cases=tuple(result.name for result in results),
        different_text=tuple(r.name for r, same in zip(results, freely, strict=True) if not (same and r.same_text)),
    )
    _log.info("parity of %s: %s", bundle.manifest.name, report.stages)
    return report


def _stage_errors(results: Sequence[CaseResult], decoder_dtype: DecoderDtype) -> Iterator[tuple[str, StageError]]:
    limits = {"preprocess": PIXEL_LIMIT, "decoder_logits": DECODER_LIMITS[decoder_dtype]}
    for stage in STAGES:
        if measured := [result.errors[stage] for result in results if stage in result.errors]:
            yield stage, StageError(measured=max(measured), limit=limits.get(stage, ENCODER_LIMIT))


def _writes_the_same(pipeline: Pipeline, case: GoldenCase, doubtful_margin: float) -> bool:
    """Whether free greedy decoding writes the golden tokens, up to the first step that rounding may decide."""
    certain = _certain_steps(case, doubtful_margin)
    if certain == 0:
        return True
    reply = pipeline.answer_parts(parts_of([case.view], case.instruction), grammar=False, max_tokens=certain)
    return reply.generation.token_ids == tuple(case.greedy_ids[:certain].tolist())


def _certain_steps(case: GoldenCase, doubtful_margin: float) -> int:
    doubtful = np.flatnonzero(case.margins <= doubtful_margin)
    return int(doubtful[0]) if len(doubtful) else len(case.greedy_ids)
