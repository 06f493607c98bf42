"""The inference worker: the same answers as in process, and every way in which a process can fail."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundle import default_bundle
from edge_runtime.errors import BundleMissing, InferenceError, InstructionError
from edge_runtime.frame_view import view_of
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import FrameStamp, RelativeDepth, View
from edge_runtime.worker import InferenceWorker, WorkerLimits
from edge_runtime.worker_wire import views_from_memory, views_to_memory
from hardware.camera.open import open_camera, shipped_clip
from tests.processes import SOON_S, assert_goes_with_its_parent, gone


@pytest.fixture(scope="module")
def view() -> View:
    with open_camera(str(shipped_clip())) as camera:
        return view_of(camera.read())


@pytest.fixture(scope="module")
def worker() -> Iterator[InferenceWorker]:
    with InferenceWorker(default_bundle(), n_threads=1) as worker:
        yield worker


def killed(worker: InferenceWorker, with_signal: signal.Signals) -> int:
    pid = worker.pid
    assert pid is not None
    os.kill(pid, with_signal)
    return pid


def test_the_answer_is_the_one_given_in_process(worker: InferenceWorker, view: View) -> None:
    """All of it but the times: text, points in metres in both frames, confidence, steps, identity."""
    base_from_camera = np.array([[0, 0, 1, 0.5], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1]], np.float64)
    stamp = FrameStamp("k7", view.rgb.shape[1], view.rgb.shape[0])
    with Pipeline.open(default_bundle(), n_threads=1) as pipeline:
        expected = pipeline.refer([view], "the mug", frame=stamp, base_from_camera=base_from_camera)
    answer = worker.refer([view], "the mug", frame=stamp, base_from_camera=base_from_camera)
    assert answer.timings_ms.keys() == expected.timings_ms.keys()
    assert answer == replace(expected, timings_ms=answer.timings_ms)
    assert answer.points[0].position.base_m is not None


def test_views_travel_whole(view: View) -> None:
    picture = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    sent = [view, View(rgb=view.rgb[::2, ::3]), View(rgb=picture, depth=RelativeDepth(picture[:, ::-1]))]
    described, fd = views_to_memory(sent)
    got = views_from_memory(described, fd)
    os.close(fd)
    for was, now in zip(sent, got, strict=True):
        np.testing.assert_array_equal(now.rgb, was.rgb)
        assert now.intrinsics == was.intrinsics
        assert type(now.depth) is type(was.depth)
    np.testing.assert_array_equal(got[0].depth.depth_m, view.depth.depth_m)  # type: ignore[union-attr]
    np.testing.assert_array_equal(got[2].depth.picture, picture[:, ::-1])  # type: ignore[union-attr]


def test_asking_does_not_wait(worker: InferenceWorker, view: View) -> None:
    started = time.monotonic()
    worker.ask([view], "the mug")
    asked_s = time.monotonic() - started
    assert worker.poll() is None
    with pytest.raises(InferenceError, match="busy"):
        worker.ask([view], "the cup")
    while worker.poll(1.0) is None:
        assert time.monotonic() - started < SOON_S
    assert asked_s < 0.5 * (time.monotonic() - started)


def test_a_refused_question_is_told_and_the_next_one_answered(worker: InferenceWorker, view: View) -> None:
    with pytest.raises(InstructionError):
        worker.refer([view], "   ")
    with pytest.raises(InstructionError, match="no picture"):
        worker.refer([], "the mug")
    assert worker.failures == 0
    assert worker.refer([view], "the mug").bundle == worker.bundle


def test_kill_9_in_the_middle_of_an_answer_costs_that_answer(view: View) -> None:
    with InferenceWorker(default_bundle(), n_threads=1) as worker:
        worker.ask([view], "the mug")
        first = killed(worker, signal.SIGKILL)
        with pytest.raises(InferenceError, match=r"signal 9.*being started again"):
            while worker.poll(1.0) is None:
                pass
        assert worker.refer([view], "the mug").valid
        assert worker.pid != first
        killed(worker, signal.SIGSEGV)
        with pytest.raises(InferenceError):
            worker.refer([view], "the mug")
        assert worker.refer([view], "the mug").valid
        assert worker.failures == 2


def test_a_worker_that_hangs_is_killed_when_its_time_is_over(view: View) -> None:
    limits = WorkerLimits(answer_ms=300, failures=0)
    with InferenceWorker(default_bundle(), n_threads=1, limits=limits) as worker:
        pid = killed(worker, signal.SIGSTOP)
        worker.ask([view], "the mug")
        with pytest.raises(InferenceError, match=r"did not answer in time.*given up"):
            while worker.poll(1.0) is None:
                pass
        assert gone(pid)
        with pytest.raises(InferenceError, match="failed for good"):
            worker.poll()


def test_what_cannot_be_loaded_is_said_as_in_process(tmp_path: Path) -> None:
    worker = InferenceWorker(tmp_path / "nothing")
    with pytest.raises(BundleMissing), worker:
        pass
    assert worker.pid is None


def test_leaving_in_the_middle_of_an_answer_takes_two_seconds_at_most(view: View) -> None:
    with InferenceWorker(default_bundle(), n_threads=1) as worker:
        worker.ask([view], "the mug")
        pid = killed(worker, signal.SIGSTOP)
        started = time.monotonic()
    assert time.monotonic() - started < 2
    assert gone(pid)


@pytest.mark.parametrize("stopped", [False, True])
def test_it_does_not_outlive_a_killed_parent(stopped: bool) -> None:
    script = (
        "import time\nfrom edge_runtime.bundle import default_bundle\nfrom edge_runtime.worker import InferenceWorker\n"
        "with InferenceWorker(default_bundle()) as worker:\n    print(worker.pid, flush=True)\n    time.sleep(600)\n"
    )
    assert_goes_with_its_parent(script, stopped=stopped)
