"""Keeps a live run going when the board or the camera cannot do everything: looks, turns the pace down, and says so.

    board -> vitals --.
    loop  -> status --+-> degrade -> pace of the loop, log, status line, metrics

`pace` and `look` are called by the loop in its ticks and never wait: the board is looked at by a thread.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeAlias

from edge_runtime.degrade import CameraSigns, Condition, DegradePolicy, DegradeSettings
from edge_runtime.errors import ConfigError
from edge_runtime.loop_records import LoopStatus, Pace
from hardware.vitals import Vitals, VitalsReader, VitalsWatch

log = logging.getLogger(__name__)

OnLook: TypeAlias = Callable[[LoopStatus, Vitals, Condition], None]


class HasStatus(Protocol):
    """The live loop, as far as it matters here."""

    @property
    def status(self) -> LoopStatus:
        """How it is now."""
        ...


class LiveHealth:
    """A pace policy of the live loop, and a chore.

    Args:
        policy: Decides.
        vitals: Gives the last look at the board.
        on_look: Gets everything, for metrics; called in every tick.
    """

    def __init__(
        self,
        policy: DegradePolicy,
        vitals: Callable[[], Vitals],
        on_look: OnLook = lambda *_: None,
    ) -> None:
        self._policy, self._vitals, self._on_look = policy, vitals, on_look
        self.condition = Condition()

    def pace(self, _: LoopStatus) -> Pace:
        """How hard to work; a `PacePolicy`."""
        work = self._policy.work(self.condition)
        return Pace(work.max_tiles, work.pause_ms, work.every, self.condition.why)

    def look(self, loop: HasStatus) -> None:
        """See how things are; a chore, so that it happens without frames too."""
        status, vitals = loop.status, self._vitals()
        camera = status.camera
        signs = CameraSigns(
            delivers=camera is None or camera.state == "delivering",
            frame_age_ms=status.frame_age_ms,
            reason="" if camera is None else camera.reason,
        )
        before, self.condition = self.condition, self._policy.update(status.now_s, vitals, signs)
        if before.modes != self.condition.modes:
            _say(self.condition)
        self._on_look(status, vitals, self.condition)


@contextlib.contextmanager
def live_health(
    settings: DegradeSettings, *, max_tiles: int | None = None, metrics: Path | None = None
) -> Iterator[LiveHealth]:
    """The health of one run on this machine.

    Args:
        settings: When to do with less.
        max_tiles: The configured tile budget.
        metrics: File for Prometheus, if one is wanted.

    Raises:
        ConfigError: Metrics are wanted and prometheus_client is not installed.
        StorageError: The file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        on_look = (lambda *_: None) if metrics is None else _metrics_file(metrics, stack)
        watch = stack.enter_context(VitalsWatch(VitalsReader()))
        yield LiveHealth(DegradePolicy(settings, max_tiles=max_tiles), lambda: watch.latest, on_look)


def _metrics_file(path: Path, stack: contextlib.ExitStack) -> OnLook:
    try:
        from edge_runtime.loop_metrics import LoopMetrics, MetricsFile, Snapshot
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"metrics to {path} need prometheus_client, which is not installed: pip install 'roborefer-edge[metrics]'"
        ) from error
    metrics = LoopMetrics()
    stack.enter_context(MetricsFile(metrics, path))
    return lambda status, vitals, condition: metrics.saw(Snapshot(status, vitals, condition))


def _say(condition: Condition) -> None:
    if condition.modes:
        log.warning("degraded: %s", condition.why)
    else:
        log.info("no longer degraded: full pace again")
