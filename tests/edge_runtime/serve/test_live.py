"""A server that looks through a camera: orders, the stream, pictures, questions beside it, a lost camera."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from edge_runtime.degrade import DegradeSettings
from edge_runtime.errors import ConfigError, DataError, DeviceError
from edge_runtime.serve.client import EdgeClient
from edge_runtime.serve.live_wire import PROTOCOL, TICKET_PREFIX, AnswerLine, StateLine, TargetLine, stream_schema
from tests.conftest import REPOSITORY
from tests.edge_runtime.serve.conftest import TOKEN, Live, Served, listening, looking, png, wait_until
from tests.edge_runtime.serve.test_inference import Gate, running

SCHEMA = REPOSITORY / "docs" / "schema" / "serve_stream.json"
MOST_LINES = 2000


@pytest.fixture
def client(live: Live) -> Iterator[EdgeClient]:
    """Nothing is asked at the end."""
    with EdgeClient(live.served.url) as found:
        yield found
        found.order("cancel_all")
        live.unplugged.unlink(missing_ok=True)


def watch(served: Served, **named: Any) -> AbstractContextManager[ClientConnection]:
    return connect(f"ws://127.0.0.1:{served.port}/v1/stream", proxy=None, **named)


def until(client: EdgeClient, true: Callable[[Any], bool]) -> list[Any]:
    """The lines up to the first one that is so."""
    lines = []
    for line in client.stream(silence_s=60):
        lines.append(line)
        if true(line):
            return lines
        assert len(lines) < MOST_LINES
    raise AssertionError("the stream ended")


def is_tracking(line: Any) -> bool:
    return isinstance(line, TargetLine) and line.state == "tracking"


# --- orders and the stream ------------------------------------------------------------------------------------


def test_a_question_is_set_followed_in_every_frame_changed_and_cancelled(client: EdgeClient, live: Live) -> None:
    asked = client.set_target("Point to the blue cup.")
    assert asked.current is not None
    assert asked.current.text == "Point to the blue cup."
    lines = until(client, is_tracking)
    answer = next(line for line in lines if isinstance(line, AnswerLine))
    assert answer.instruction == "Point to the blue cup."
    assert answer.points[0].camera_m is not None
    ids = [line.frame.id for line in lines if isinstance(line, TargetLine)]
    assert ids == sorted(set(ids))

    changed = client.order("change", "Point to the yellow shoe.", number=asked.current.number)
    assert changed.current is not None
    for line in until(client, is_tracking):
        assert not isinstance(line, AnswerLine | TargetLine) or line.instruction == "Point to the yellow shoe."

    assert client.order("cancel", number=changed.current.number).current is None
    live_now = client.live()
    assert (live_now.target, live_now.answer) == (None, None)
    states = until(client, lambda line: isinstance(line, StateLine) and line.current is None)
    assert not any(isinstance(line, TargetLine) for line in states)


@pytest.mark.slow
def test_several_questions_take_turns(client: EdgeClient) -> None:
    client.set_target("Point to the blue cup.")
    assert [q.text for q in client.order("add", "Point to the yellow shoe.").waiting] == ["Point to the yellow shoe."]
    seen: set[str] = set()

    def both(line: Any) -> bool:
        if isinstance(line, AnswerLine):
            seen.add(line.instruction or "")
        return len(seen) == 2

    until(client, both)
    assert seen == {"Point to the blue cup.", "Point to the yellow shoe."}


def test_orders_that_make_no_sense_are_refused(client: EdgeClient, live: Live) -> None:
    with pytest.raises(DataError, match="no question 99"):
        client.order("cancel", number=99)
    bodies: list[Any] = [{"do": "set"}, {"do": "dance"}, {"do": "change", "text": "x"}, {"text": 3}, {"txt": "x"}, []]
    for body in bodies:
        reply = httpx.post(f"{live.served.url}/v1/target", json=body)
        assert (reply.status_code, reply.json()["kind"]) == (400, "bad_request"), body
    assert httpx.post(f"{live.served.url}/v1/target", json={"text": "x" * 9000}).status_code == 413
    assert httpx.post(f"{live.served.url}/v1/target", data={"text": "x"}).status_code == 415


def test_lines_are_as_the_schema_says(client: EdgeClient, live: Live) -> None:
    written = json.loads(SCHEMA.read_text())
    assert {key: written[key] for key in stream_schema()} == stream_schema()
    client.set_target("Point to the blue cup.")
    until(client, is_tracking)
    kinds = set()
    with watch(live.served) as socket:
        for _ in range(12):
            line = json.loads(socket.recv(timeout=60))
            Draft202012Validator(written).validate(line)
            kinds.add(line["kind"])
    assert {"state", "target"} <= kinds


def test_a_question_about_a_picture_is_answered_beside_the_live_one(
    client: EdgeClient, live: Live, photo: Path
) -> None:
    client.set_target("Point to the blue cup.")
    until(client, is_tracking)
    assert live.side.status is not None
    before = live.side.status.answers
    for _ in range(3):
        assert client.refer(photo.read_bytes(), "Point to the yellow shoe.").frame.width == 640
    assert client.refer(png(), "the cup").frame.width == 64
    wait_until(lambda: live.side.status and live.side.status.answers > before)
    assert client.live().answer is not None


# --- pictures and pixels --------------------------------------------------------------------------------------


def test_the_newest_frame_its_depth_and_a_pixel(client: EdgeClient, live: Live) -> None:
    reply = httpx.get(f"{live.served.url}/v1/frame.jpg")
    assert Image.open(io.BytesIO(reply.content)).size == (640, 480)
    assert int(reply.headers["X-RoboRefer-Frame"]) >= 0
    depth = httpx.get(f"{live.served.url}/v1/frame.jpg?of=depth")
    assert Image.open(io.BytesIO(depth.content)).mode == "L"
    near, far = map(float, depth.headers["X-RoboRefer-Depth-Range-M"].split())
    measured = client.pixel((320, 240))
    assert measured.depth_m is not None
    assert near <= measured.depth_m <= far
    assert measured.camera_m is not None
    assert measured.camera_m[2] == pytest.approx(measured.depth_m)
    assert client.frame()[:2] == b"\xff\xd8"


@pytest.mark.parametrize("path", ["/v1/frame.jpg?of=sound", "/v1/pixel", "/v1/pixel?u=1&v=-1", "/v1/pixel?u=640&v=0",
                                  "/v1/pixel?u=1e3&v=1", "/v1/pixel?u=99999999999999999999&v=1"])  # fmt: skip
def test_looks_that_make_no_sense_are_refused(live: Live, path: str) -> None:
    assert httpx.get(live.served.url + path).status_code == 400


def test_a_camera_that_goes_is_told_and_comes_back_with_its_target(client: EdgeClient, live: Live) -> None:
    client.set_target("Point to the blue cup.")
    until(client, is_tracking)
    live.unplugged.touch()
    lost = until(client, lambda line: isinstance(line, StateLine) and line.camera != "delivering")
    assert lost[-1].camera in ("recovering", "opening")
    wait_until(lambda: httpx.get(f"{live.served.url}/v1/frame.jpg").status_code == 503)
    refused = httpx.get(f"{live.served.url}/v1/pixel?u=1&v=1")
    assert (refused.status_code, refused.json()["kind"]) == (503, "camera_lost")
    assert client.refer(png(), "the cup").frame.width == 64  # the model is still there
    live.unplugged.unlink()
    back = until(client, is_tracking)
    assert back[-1].instruction == "Point to the blue cup."
    assert client.state().camera == "delivering"


@pytest.mark.slow
def test_a_board_that_has_to_do_with_less_is_told(tmp_path: Path) -> None:
    never_enough = DegradeSettings(low_memory_mib=1e9, enough_memory_mib=2e9)
    with looking(tmp_path / "unplugged", degrade=never_enough) as live, EdgeClient(live.served.url) as client:
        state = until(client, lambda line: isinstance(line, StateLine) and bool(line.turned_down))[-1]
        assert state.turned_down.startswith("low memory (")
        assert state.max_tiles == 1


# --- who may watch ----------------------------------------------------------------------------------------------


def test_no_more_watchers_than_places_and_one_who_speaks_is_shown_out(live: Live) -> None:
    wait_until(lambda: len(live.side.watchers) == 0)
    with ExitStack() as stack:
        watching = [stack.enter_context(watch(live.served)) for _ in range(4)]
        with pytest.raises(InvalidStatus) as refused, watch(live.served):
            pass
        assert refused.value.response.status_code == 429
        assert "Content-Security-Policy" in refused.value.response.headers
        watching[0].send("{}")
        with pytest.raises(ConnectionClosed) as closed:
            for _ in range(MOST_LINES):
                watching[0].recv(timeout=60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
    wait_until(lambda: len(live.side.watchers) == 0)


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}], ids=str
)
def test_pages_of_others_may_not_watch(live: Live, headers: dict[str, str]) -> None:
    head = {"Host": f"127.0.0.1:{live.served.port}", "Connection": "Upgrade", "Upgrade": "websocket",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version": "13", **headers}  # fmt: skip
    assert httpx.get(f"{live.served.url}/v1/stream", headers=head).status_code == 403


def test_a_token_or_a_ticket_opens_the_stream_a_ticket_once(gate: Gate, live: Live) -> None:
    with running(gate) as thread, listening(thread, token=TOKEN, live=live.side) as guarded:
        for named in ({}, {"subprotocols": [PROTOCOL, TICKET_PREFIX + "guessed"]}):
            with pytest.raises(InvalidStatus) as refused, watch(guarded, **named):
                pass
            assert refused.value.response.status_code == 401
        assert httpx.post(f"{guarded.url}/v1/stream/ticket").status_code == 401
        ticket = httpx.post(f"{guarded.url}/v1/stream/ticket", auth=("eva", TOKEN)).json()["ticket"]
        with watch(guarded, subprotocols=[PROTOCOL, TICKET_PREFIX + ticket]) as socket:
            assert socket.subprotocol == PROTOCOL
            assert json.loads(socket.recv(timeout=60))["kind"] == "state"
        with pytest.raises(InvalidStatus), watch(guarded, subprotocols=[PROTOCOL, TICKET_PREFIX + ticket]):
            pass
        with EdgeClient(guarded.url, token=TOKEN) as client:
            assert next(client.stream(silence_s=60)).kind == "state"
        with EdgeClient(guarded.url) as client, pytest.raises(ConfigError, match="401"):
            next(client.stream())


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_a_server_without_a_camera_says_so(served: Served) -> None:
    with EdgeClient(served.url) as client:
        for look in (client.live, client.frame, lambda: client.pixel((1, 1)), lambda: client.set_target("x"),
                     lambda: next(client.stream())):  # fmt: skip
            with pytest.raises(DeviceError, match="no camera"):
                look()
        assert client.state().camera == "none"


def test_metrics_tell_of_the_loop(client: EdgeClient, live: Live) -> None:
    text = httpx.get(f"{live.served.url}/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("roborefer_live_"))
    assert float(figures["roborefer_live_frames"]) > 0
    assert float(figures["roborefer_live_camera_up"]) in (0.0, 1.0)
    assert np.isfinite([float(value) for value in figures.values()]).all()
