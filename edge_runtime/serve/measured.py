"""What a server says about itself to Prometheus."""

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from edge_runtime.loop_records import LoopStatus
from edge_runtime.serve.inference import InferenceThread
from edge_runtime.serve.questions import Answered
from edge_runtime.serve.watchers import Watchers

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_OF_LOOP = {
    "frames": "Camera frames handled.",
    "dropped": "Camera frames passed over.",
    "targets": "Target lines told.",
    "answers": "Answers of the live loop.",
    "failed_questions": "Questions of the live loop without an answer.",
    "worker_failures": "Crashes and hangs of the model's process.",
}
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class ServerMetrics:
    """Counters of one server, in a registry of their own.

    Args:
        thread: Whose line is watched.
    """

    def __init__(self, thread: InferenceThread) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "roborefer_requests", "Requests by path and status.", ["path", "status"], registry=self._registry
        )
        self._answers = Counter("roborefer_answers", "Answers by validity.", ["valid"], registry=self._registry)
        self._stages = Histogram(
            "roborefer_stage_seconds", "Busy time per stage.", ["stage"], buckets=_SECONDS, registry=self._registry
        )
        self._waits = Histogram("roborefer_wait_seconds", "Time in line.", buckets=_SECONDS, registry=self._registry)
        in_house = Gauge("roborefer_questions_in_house", "In line or being answered.", registry=self._registry)
        in_house.set_function(lambda: thread.in_house)
        ready = Gauge("roborefer_ready", "1 if questions are answered now.", registry=self._registry)
        ready.set_function(lambda: thread.state == "ready")

    def watch_loop(self, status: Callable[[], LoopStatus | None], watchers: Watchers) -> None:
        """Also tell of a live loop: `status` is of its newest tick, None before the first."""

        def told(name: str, help_text: str, value: Callable[[LoopStatus], float]) -> None:
            gauge = Gauge(f"roborefer_live_{name}", help_text, registry=self._registry)
            gauge.set_function(lambda: 0.0 if (now := status()) is None else float(value(now)))

        for name, help_text in _OF_LOOP.items():
            told(name, help_text, lambda now, name=name: getattr(now, name))  # type: ignore[misc]
        told("tracking", "1 while a target is followed.", lambda now: now.is_tracking)
        told(
            "frame_age_seconds",
            "Of the newest frame, as of the newest tick.",
            lambda now: (now.frame_age_ms or 0) / 1e3,
        )
        told(
            "camera_up",
            "1 while the camera delivers.",
            lambda now: bool(now.camera and now.camera.state == "delivering"),
        )
        for name, help_text, value in (
            ("watchers", "Who watch the stream.", lambda: len(watchers)),
            ("missed_lines", "Lines that slow watchers lost.", lambda: watchers.missed),
        ):
            Gauge(f"roborefer_live_{name}", help_text, registry=self._registry).set_function(value)

    def saw_request(self, path: str, status: int) -> None:
        """Count a response; `path` is a route of ours, never what a client made up."""
        self._requests.labels(path, str(status)).inc()

    def saw_answer(self, answered: Answered) -> None:
        """Count an answer and its times."""
        self._answers.labels(str(answered.answer.valid).lower()).inc()
        self._waits.observe(answered.waited_ms / 1e3)
        self._observe(answered.answer.timings_ms)

    def _observe(self, timings_ms: Mapping[str, float]) -> None:
        for stage, took_ms in timings_ms.items():
            self._stages.labels(stage).observe(took_ms / 1e3)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)
