"""How far a quantized bundle is from its full-precision parent on the golden cases, through the robot's own code.

The golden values stay the parent's, so `check` on a robot measures the same distance and compares it with the
tolerances stated here: twice what was measured where the bundle was made. That is room for another processor's
rounding, and little enough to notice one that saturates or a kernel that is wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_runtime.bundle import GOLDEN, Bundle
from edge_runtime.errors import BundleInvalid
from edge_runtime.golden import GoldenCase, read_golden
from edge_runtime.golden_run import CaseResult, decoder_precision, doubtful_margin, run_case
from edge_runtime.manifest import Tolerance, rounded_up
from edge_runtime.pipeline import Pipeline

ROOM = 2.0


@dataclass(frozen=True)
class GoldenErrors:
    """What the golden cases showed."""

    stages: Mapping[str, float]  # stage -> largest relative error over all cases
    tokens: int  # greedy tokens compared, teacher-forced
    same_tokens: int  # of them, how many the quantized bundle prefers too

    def tolerances(self, parent: Mapping[str, Tolerance]) -> dict[str, Tolerance]:
        """What the new manifest states: never less than the parent's own limits."""
        stated = {}
        for stage, measured in sorted(self.stages.items()):
            least = parent[stage].limit if stage in parent else 0.0
            fixed = stage == "preprocess"  # the same code on the same picture: nothing was quantized
            limit = least if fixed else max(least, rounded_up(ROOM * measured))
            stated[stage] = Tolerance(limit=limit, measured=rounded_up(measured))
        return stated

    def require(self, worst: float) -> None:
        """Refuse a bundle that is broken rather than quantized.

        Raises:
            BundleInvalid: A stage is off by more than `worst` of its largest value.
        """
        over = [f"{stage} is off by {error:.2g}" for stage, error in self.stages.items() if not error <= worst]
        if over:
            raise BundleInvalid(
                f"the quantized bundle is too far from its parent: {'; '.join(over)} of the largest value, allowed is "
                f"{worst:g}. Nothing was written. Choose a recipe that keeps more bits."
            )


def measure(staged: Bundle) -> GoldenErrors:
    """Run the golden cases of a staged bundle.

    Raises:
        BundleInvalid: There are no golden cases, or a native library cannot load the files.
        InferenceError: A native library fails on them.
    """
    cases = read_golden(staged.file(GOLDEN))
    if not cases:
        raise BundleInvalid(f"{staged.path / GOLDEN} holds no case; export the checkpoint again")
    kv_type, _ = decoder_precision(staged)
    with Pipeline.of_bundle(staged, kv_type=kv_type) as pipeline:
        return _summary([_run(pipeline, case) for case in cases])


def _run(pipeline: Pipeline, case: GoldenCase) -> CaseResult:
    return run_case(pipeline, case, doubtful_margin=doubtful_margin(pipeline.bundle, case))


def _summary(results: Sequence[CaseResult]) -> GoldenErrors:
    if different := [result.name for result in results if not result.prompt_equal]:
        raise BundleInvalid(f"the quantized decoder writes other prompts than its parent for {different}")
    stages: dict[str, float] = {}
    for result in results:
        for stage, error in result.errors.items():
            stages[stage] = max(error, stages.get(stage, 0.0))
    return GoldenErrors(
        stages=stages,
        tokens=sum(result.tokens for result in results),
        same_tokens=sum(result.same_tokens for result in results),
    )
