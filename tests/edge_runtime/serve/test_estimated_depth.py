"""A server whose bundle estimates depth: clients that enable depth and send none get it, and are told."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("onnx", reason="the estimator of these tests is made with it")

from edge_runtime.serve.client import EdgeClient
from edge_runtime.serve.inference import InferenceThread
from edge_runtime.serve.verb import model_of
from tests.edge_runtime.serve.conftest import LIMITS, NANO, Served, b64, listening, png, wait_until
from tests.estimator_bundle import with_estimator


@pytest.fixture(scope="module")
def estimating(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    bundle = with_estimator(NANO, tmp_path_factory.mktemp("estimating") / "bundle")
    thread = InferenceThread(model_of(bundle.path, n_threads=1), places=8, waiting_pixels=LIMITS.waiting_pixels)
    thread.start()
    try:
        wait_until(lambda: thread.state != "loading")
        assert thread.state == "ready", thread.failure
        with listening(thread) as served:
            yield served
    finally:
        assert thread.stop()


def ask(served: Served, **body: Any) -> httpx.Response:
    whole = {"image_url": [b64(png())], "depth_url": [], "enable_depth": 1, "text": "Point to the cup.", **body}
    return httpx.post(f"{served.url}/query", json=whole, timeout=60)


def test_enabled_depth_that_was_not_sent_is_estimated(estimating: Served) -> None:
    reply = ask(estimating)
    assert reply.status_code == 200
    assert (reply.json()["depth_source"], reply.headers["X-RoboRefer-Depth"]) == ("estimated", "estimated")


def test_several_pictures_have_an_estimate_each(estimating: Served) -> None:
    reply = ask(estimating, image_url=[b64(png(seed=1)), b64(png(80, 64, seed=2))])
    assert reply.json()["depth_source"] == "estimated"


def test_depth_that_is_sent_or_not_wanted_is_not_estimated(estimating: Served) -> None:
    assert ask(estimating, depth_url=[b64(png(seed=3))]).json()["depth_source"] == "file"
    assert ask(estimating, enable_depth=0).json()["depth_source"] == "none"


def test_our_own_protocol_asks_for_it_by_name(estimating: Served) -> None:
    with EdgeClient(estimating.url) as client:
        found = client.refer(png(), "the cup", estimate_depth=True)
        plain = client.refer(png(), "the cup")
        assert client.state().estimates_depth
    assert (found.depth_source, plain.depth_source) == ("estimated", "none")
    assert {point.depth_reason for point in found.points} == {"relative_depth"}
    assert found.timings_ms["depth_estimator"] > 0


def test_metrics_tell_how_long_estimates_take(estimating: Served) -> None:
    ask(estimating)
    assert 'stage="depth_estimator"' in httpx.get(f"{estimating.url}/metrics").text


def test_a_bundle_without_one_says_so(served: Served) -> None:
    with EdgeClient(served.url) as client:
        assert client.state().estimates_depth is False
        assert client.refer(png(), "the cup", estimate_depth=True).depth_source == "none"
