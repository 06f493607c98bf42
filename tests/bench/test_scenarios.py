"""Scenarios: who is asked what and when; the pictures and the camera they are asked about."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bench.scenarios import (
    SCENARIOS,
    Asked,
    FixedReferrer,
    Scene,
    SceneSource,
    Workload,
    ask_all,
    live_camera,
    questions,
)
from edge_runtime.errors import ConfigError
from edge_runtime.records import MetricDepth, View
from hardware.errors import CameraTimeout
from tests.fakes import EchoReferrer
from tests.hardware.conftest import VirtualClock


class RememberingPipeline(EchoReferrer):
    """Answers with the image centre, takes what a pipeline takes, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.views: list[View] = []
        self.settings: list[dict[str, Any]] = []

    def refer(self, views: Sequence[View], instruction: str, **settings: Any) -> Any:
        self.views.append(views[0])
        self.settings.append(settings)
        known = {key: settings[key] for key in ("raw_prompt", "frame", "base_from_camera") if key in settings}
        return super().refer(views, instruction, **known)


def ask(workload: Workload) -> tuple[RememberingPipeline, list[Asked]]:
    pipeline, answered = RememberingPipeline(), list[Asked]()
    ask_all(pipeline, workload, answered.append)  # type: ignore[arg-type]
    return pipeline, answered


def workload(scenario: Any, **changes: Any) -> Workload:
    return Workload(**{"scenario": scenario, "count": 3, "warmup": 1, "width": 64, "height": 48, **changes})


def texts(pipeline: RememberingPipeline) -> list[str]:
    return [text for text, _ in pipeline.asked]


def test_single_asks_something_new_about_something_new() -> None:
    pipeline, answered = ask(workload("single"))
    assert len(answered) == 4  # warm-up included
    assert len(set(texts(pipeline))) == 4
    for one, other in itertools.combinations(pipeline.views, 2):
        assert not np.array_equal(one.rgb, other.rgb)


def test_repeat_asks_something_new_about_the_same_frame() -> None:
    pipeline, _ = ask(workload("repeat"))
    assert len(set(texts(pipeline))) == 4
    assert all(np.array_equal(view.rgb, pipeline.views[0].rgb) for view in pipeline.views)


def test_stream_asks_the_same_about_newer_and_newer_frames() -> None:
    pipeline, answered = ask(workload("stream", fps=500.0))
    assert len(set(texts(pipeline))) == 1
    ids = [stamp.id for _, stamp in pipeline.asked if stamp]
    assert ids == sorted(set(ids))
    assert all(asked.age_ms is not None and asked.age_ms >= 0 for asked in answered)


def test_a_stream_goes_through_the_sdks_software_camera() -> None:
    pytest.importorskip("pyrealsense2")
    _, answered = ask(workload("stream", camera="software", fps=100.0, width=160, height=120))
    assert len(answered) == 4


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_settings_reach_the_pipeline(scenario: Any) -> None:
    pipeline, _ = ask(workload(scenario, grammar=False, answer_tokens=14, fps=500.0))
    assert all((s["grammar"], s["max_tokens"]) == (False, 14) for s in pipeline.settings)


@pytest.mark.parametrize("scenario", ["single", "repeat"])
def test_without_depth_views_have_none(scenario: Any) -> None:
    pipeline, _ = ask(workload(scenario, depth=False))
    assert all(view.depth is None for view in pipeline.views)
    with_depth, _ = ask(workload(scenario))
    assert all(isinstance(view.depth, MetricDepth) for view in with_depth.views)


def test_the_last_answer_is_kept_for_the_sink() -> None:
    referrer = FixedReferrer(RememberingPipeline(), grammar=True, max_tokens=None)  # type: ignore[arg-type]
    assert referrer.last is None
    view = Scene(64, 48, seed=0).view(0)
    assert referrer.refer([view], "the cup") is referrer.last


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"count": 0}, "at least one"), ({"warmup": -1}, "at least one"), ({"fps": 0.1}, "0.1 frames per second")],
)
def test_what_cannot_be_asked_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        workload("single", **changes)


def test_questions_differ_and_are_the_same_for_the_same_seed() -> None:
    first = list(itertools.islice(questions(0), 2000))
    assert len(set(first)) == 2000
    assert first == list(itertools.islice(questions(0), 2000))
    assert first != list(itertools.islice(questions(1), 2000))


def test_pictures_of_the_asked_size_with_depth_in_front_of_the_camera() -> None:
    view = Scene(848, 480, seed=3).view(5)
    assert view.rgb.shape == (480, 848, 3)
    assert isinstance(view.depth, MetricDepth)
    assert 0.2 < np.nanmin(view.depth.depth_m) < np.nanmax(view.depth.depth_m) < 3.0
    assert view.intrinsics is not None
    assert (view.intrinsics.width, view.intrinsics.height) == (848, 480)


def test_a_camera_keeps_its_pace_and_passes_over_what_nobody_read() -> None:
    clock = VirtualClock()
    source = SceneSource(Scene(64, 48, seed=0), fps=10.0, clock=clock)
    assert source.open().live
    frames = [source.next_frame(1000) for _ in range(3)]
    assert [frame.id for frame in frames] == [0, 1, 2]
    assert clock.slept_s == pytest.approx(0.2)
    clock.now_ns += 1_000_000_000  # nobody read for a second
    assert source.next_frame(1000).id == 12
    with pytest.raises(CameraTimeout, match="due in"):
        source.next_frame(10)


def test_a_recording_is_played_live_and_again(tmp_path: Any) -> None:
    from hardware.camera.replay_writer import ReplayWriter

    with ReplayWriter(tmp_path / "clip") as writer:
        for number in range(3):
            writer.write(Scene(64, 48, seed=0).frame(number, t_capture_ns=number, fps=100.0))
        writer.finish()
    with live_camera(workload("stream", camera=str(tmp_path / "clip"))) as camera:
        assert camera.info.live
        assert [camera.read().id for _ in range(5)] == [0, 1, 2, 3, 4]  # three frames, begun again
