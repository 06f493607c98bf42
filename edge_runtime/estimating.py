"""A Pipeline that also answers about pictures whose depth has to be estimated first.

A view asks for it (`View.estimate_depth`); it is done where the bundle holds an estimator and the model takes depth.
Elsewhere the view goes on without depth, and the answer's `depth_source` says so.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

from edge_runtime.bundle import ESTIMATOR, ESTIMATOR_STAGE, Bundle
from edge_runtime.depth_estimator import DepthEstimator
from edge_runtime.metrics import Clock
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import F64, Answer, FrameStamp, View


def estimates_depth(bundle: Bundle) -> bool:
    """Whether depth that is missing can be made up, and would be of use."""
    return bundle.has(ESTIMATOR) and bundle.manifest.image.depth is not None


class EstimatingPipeline:
    """A pipeline and, from the first question that needs it, its bundle's depth estimator.

    Args:
        pipeline: Opened, and closed, by the caller.
        n_threads: Of the estimator; default: one per core.
        clock: Seconds from any fixed origin.
    """

    def __init__(self, pipeline: Pipeline, *, n_threads: int | None = None, clock: Clock = time.perf_counter) -> None:
        self._pipeline = pipeline
        self._n_threads = n_threads
        self._clock = clock
        self._estimator: DepthEstimator | None = None
        self._owned = ExitStack()

    def __enter__(self) -> "EstimatingPipeline":
        """Return itself; leaving the block frees the estimator."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the estimator."""
        self._owned.close()

    def limit_tiles(self, max_tiles: int | None) -> None:
        """As `Pipeline.limit_tiles`."""
        self._pipeline.limit_tiles(max_tiles)

    def refer(
        self,
        views: Sequence[View],
        instruction: str,
        *,
        raw_prompt: bool = False,
        grammar: bool = True,
        frame: FrameStamp | None = None,
        base_from_camera: F64 | None = None,
    ) -> Answer:
        """Answer one question (contract: `Pipeline.refer`); the time an estimate took is a stage of its own.

        Raises:
            BundleInvalid: The estimator cannot be loaded.
            EdgeError: As `Pipeline.refer`.
        """
        began_s = self._clock()
        seen = [self._with_depth(view) for view in views]
        took_ms = (self._clock() - began_s) * 1e3
        answer = self._pipeline.refer(
            seen, instruction, raw_prompt=raw_prompt, grammar=grammar, frame=frame, base_from_camera=base_from_camera
        )
        if answer.depth_source != "estimated":
            return answer
        times_ms = answer.timings_ms
        return replace(answer, timings_ms={ESTIMATOR_STAGE: took_ms, **times_ms, "total": times_ms["total"] + took_ms})

    def _with_depth(self, view: View) -> View:
        if not view.estimate_depth or view.depth is not None or not estimates_depth(self._pipeline.bundle):
            return view
        return replace(view, depth=self._opened().estimate(view.rgb))

    def _opened(self) -> DepthEstimator:
        if self._estimator is None:
            self._estimator = self._owned.enter_context(
                DepthEstimator.open(
                    self._pipeline.bundle, providers=self._pipeline.encoders.providers, n_threads=self._n_threads
                )
            )
        return self._estimator
