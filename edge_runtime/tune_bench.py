"""Runs edge_runtime/tune_trial.py for each step of a tuning, within its time, and reads what it told until it ended."""

import json
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import IO, Any, Final

from edge_runtime.bundle import Bundle
from edge_runtime.tune_search import Trial
from edge_runtime.tuning import Tuning
from hardware.child import start_module

# Seconds for measuring; opening networks comes on top.
BUDGETS_S: Final[Mapping[str, float]] = {
    "providers": 40.0, "encoders": 30.0, "threads": 15.0, "ubatch": 10.0, "kv": 8.0, "answers": 15.0, "compare": 25.0,
}  # fmt: skip
STEPS: Final = tuple(BUDGETS_S)

_CHILD_STAGE: Final = {"threads": "decoder", "ubatch": "decoder", "kv": "decoder"}
_PATIENCE: Final = 2.0  # a child may take so many times its budget


@dataclass
class _Heard:
    """What children told of one candidate."""

    times_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    share: float | None = None  # of the tolerance, in golden answers
    flips: int = 0  # golden tokens that turned out otherwise
    reason: str | None = None

    @property
    def measured(self) -> bool:
        return bool(self.times_ms) or self.share is not None


class TuneBench:
    """Measures candidates step by step, and keeps every trial for the report."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        end_s: float,
        begin: Callable[[str], None] = lambda _: None,
        module: str = "edge_runtime.tune_trial",
    ) -> None:
        """Make a bench.

        Args:
            bundle: What is measured.
            end_s: When all has to be over, on the monotonic clock.
            begin: Called with each of `STEPS` as it begins.
            module: The child's program.
        """
        self._bundle = bundle
        self._end_s = end_s
        self._begin = begin
        self._module = module
        self._usual: _Heard | None = None
        self.trials: list[Trial] = []

    def measure(self, step: str, candidates: Sequence[Tuning]) -> list[Trial]:
        """Times of each candidate; one that fails or crashes its child is out, and the others go on without it."""
        self._begin(step)
        heard = self._hear(step, candidates)
        trials = [Trial(step, t, _frozen(h), h.reason) for t, h in zip(candidates, heard, strict=True)]
        self.trials += trials
        return trials

    def check_answers(self, candidate: Tuning, usual: Tuning) -> Trial:
        """Whether golden answers stay within the bundle's tolerance, or at least where the usual settings are.

        Args:
            candidate: What is to be used.
            usual: What runs without it; it is asked only where the candidate leaves the tolerance.
        """
        self._begin("answers")
        (heard,) = self._hear("answers", [candidate])
        if heard.reason is None and (heard.share is None or heard.share > 1.0 or heard.flips):
            (self._usual,) = [self._usual] if self._usual else self._hear("answers", [usual])
            heard.reason = _refusal(heard, self._usual)
        trial = Trial("answers", candidate, {}, heard.reason)
        self.trials.append(trial)
        return trial

    def _hear(self, step: str, candidates: Sequence[Tuning]) -> list[_Heard]:
        """Run children until every candidate was measured, failed, or the time is over."""
        stage, budget_s = _CHILD_STAGE.get(step, step), BUDGETS_S[step]
        heard = [_Heard() for _ in candidates]
        end_s = min(self._end_s, time.monotonic() + _PATIENCE * budget_s)
        while True:
            left = [i for i, h in enumerate(heard) if h.reason is None]
            limit_s = end_s - time.monotonic()
            if not left or limit_s <= 0:
                break
            request = {"candidates": [asdict(candidates[i]) for i in left], "budget_s": min(budget_s, limit_s)}
            lines, crash = self._run(stage, request, limit_s)
            last = _take(lines, [heard[i] for i in left])
            if crash is None or last is None:
                break
            last.reason = crash
            last.times_ms.clear()
        for one in heard:
            if not one.measured and one.reason is None:
                one.reason = "not tried: the time was over"
        return heard

    def _run(self, stage: str, request: Mapping[str, Any], limit_s: float) -> tuple[list[dict[str, Any]], str | None]:
        """What one child told, and how it crashed if it did; a child whose time is over did not."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            child = start_module(
                self._module, str(self._bundle.path.resolve()), stage, json.dumps(request), stdout=out, stderr=errors
            )
            try:
                status = child.wait(limit_s)
            except subprocess.TimeoutExpired:
                status = 0
            finally:
                child.kill()
                child.wait()
            lines = [json.loads(line) for line in _text(out).splitlines(keepends=True) if line.endswith("\n")]
            last_words = (_text(errors).strip().splitlines() or ["no message"])[-1]
        if status < 0:
            return lines, f"crashed with signal {-status}"
        return lines, f"failed: {last_words}" if status else None


def _take(lines: Sequence[dict[str, Any]], heard: Sequence[_Heard]) -> _Heard | None:
    """Note what was told; the candidate that was at work last."""
    last: _Heard | None = None
    for line in lines:
        last = heard[line.pop("candidate")]
        event = line.pop("event")
        if event == "took":
            for part, taken_ms in line.items():
                last.times_ms[part].append(taken_ms)
        elif event == "answers":
            last.share, last.flips = line["share"], line["flips"]
        elif event == "failed":
            last.reason = line["reason"]
    return last


def _refusal(candidate: _Heard, usual: _Heard) -> str | None:
    """Why a candidate that is out of tolerance may not be used; None: the usual settings are no better."""
    if candidate.share is None:
        return "not compared with the golden values: the time was over"
    share, flips = (usual.share or 0.0, usual.flips) if usual.reason is None else (0.0, 0)
    if candidate.share <= max(1.0, share) and candidate.flips <= flips:
        return None
    return (
        f"its golden answers leave the tolerance: {candidate.share:.2f} of it, {candidate.flips} other tokens "
        f"(the defaults: {share:.2f}, {flips})"
    )


def _frozen(heard: _Heard) -> dict[str, tuple[float, ...]]:
    return {part: tuple(times_ms) for part, times_ms in heard.times_ms.items()}


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")
