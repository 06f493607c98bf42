"""Our own endpoints over a real socket: answers, metres, pictures, limits, deadlines, who may ask."""

import base64
import io
import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image

from edge_runtime.deproject import lift
from edge_runtime.image_files import decode_depth
from edge_runtime.records import MetricDepth
from edge_runtime.serve.client import EdgeClient
from edge_runtime.serve.limits import ServeLimits
from edge_runtime.serve.wire import ReferReply
from hardware.geometry import Intrinsics, read_intrinsics
from tests.conftest import REPOSITORY
from tests.edge_runtime.serve.conftest import CLIP, TOKEN, Served, b64, listening, png, wait_until
from tests.edge_runtime.serve.test_inference import Gate, running

INTRINSICS = read_intrinsics(CLIP / "intrinsics.json")
SCHEMAS = REPOSITORY / "docs" / "schema"


def post(served: Served, path: str, **named: Any) -> httpx.Response:
    return httpx.post(served.url + path, timeout=60, trust_env=False, **named)


def form(photo: Path, depth: Path) -> dict[str, Any]:
    return {
        "files": [("images", ("a.jpg", photo.read_bytes())), ("depths", ("d.png", depth.read_bytes()))],
        "data": {"text": "Point to the blue cup.", "intrinsics": json.dumps(INTRINSICS.to_json())},
    }


def as_schema_says(reply: dict[str, Any], name: str) -> None:
    jsonschema.validate(reply, json.loads((SCHEMAS / f"{name}.json").read_text()))


# --- /v1/refer ------------------------------------------------------------------------------------------------


def test_form_and_json_give_the_same_whole_answer(served: Served, photo: Path, depth_file: Path) -> None:
    by_form = post(served, "/v1/refer", **form(photo, depth_file)).json()
    body = {
        "images": [b64(photo.read_bytes())], "depths": [b64(depth_file.read_bytes())],
        "text": "Point to the blue cup.", "intrinsics": INTRINSICS.to_json(), "annotate": True,
    }  # fmt: skip
    by_json = post(served, "/v1/refer", json=body).json()
    as_schema_says(by_json, "serve_refer")
    assert by_form["annotated_png"] is None
    told = ("kind", "answer", "valid", "depth_source", "bundle", "frame")
    assert [by_form[k] for k in told] == [by_json[k] for k in told]
    point = by_json["points"][0]
    assert [by_form["points"][0][k] for k in ("px", "camera_m")] == [point["px"], point["camera_m"]]
    depth = decode_depth(depth_file.read_bytes(), name="depth", unit_m=0.001)
    assert isinstance(depth, MetricDepth)
    expected = lift(tuple(point["px"]), depth.depth_m, INTRINSICS).camera_m
    assert expected is not None
    np.testing.assert_allclose(point["camera_m"], expected, atol=1e-5)
    drawn = Image.open(io.BytesIO(base64.b64decode(by_json["annotated_png"])))
    assert drawn.size == (640, 480)


def test_the_schema_is_what_the_code_says() -> None:
    written = json.loads((SCHEMAS / "serve_refer.json").read_text())
    generated = ReferReply.model_json_schema()
    assert {k: written[k] for k in generated} == generated


def test_without_intrinsics_there_are_no_metres(served: Served, photo: Path, depth_file: Path) -> None:
    asked = form(photo, depth_file)
    del asked["data"]["intrinsics"]
    point = post(served, "/v1/refer", **asked).json()["points"][0]
    assert (point["camera_m"], point["depth_reason"]) == (None, "no_intrinsics")


def test_base_from_camera_moves_the_point(served: Served, photo: Path, depth_file: Path) -> None:
    asked = form(photo, depth_file)
    rows = np.eye(4)
    rows[2, 3] = 1.5
    asked["data"]["base_from_camera"] = json.dumps(rows.tolist())
    point = post(served, "/v1/refer", **asked).json()["points"][0]
    np.testing.assert_allclose(point["base_m"], np.add(point["camera_m"], (0, 0, 1.5)), atol=2e-5)


def metres(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((height, width), 1000, np.uint16)).save(file, "PNG")
    return file.getvalue()


REFUSED: dict[str, tuple[dict[str, Any], int, str]] = {
    "misspelt name": ({"txt": "x"}, 400, "bad_request"),
    "empty text": ({"text": "  "}, 400, "bad_text"),
    "text too long": ({"text": "x" * 9000}, 413, "too_large"),
    "no picture": ({"images": []}, 400, "bad_request"),
    "too many pictures": ({"images": [b64(png())] * 5}, 413, "too_large"),
    "no base64": ({"images": ["***"]}, 400, "bad_base64"),
    "no image": ({"images": [b64(b"words")]}, 400, "bad_image"),
    "tiny image": ({"images": [b64(png(4, 4))]}, 400, "bad_image"),
    "more depth maps than pictures": ({"depths": [b64(png())] * 2}, 400, "bad_request"),
    "metres of another size": ({"depths": [b64(metres(32, 32))]}, 400, "bad_depth"),
    "intrinsics of another picture": (
        {"intrinsics": {"fx": 9.0, "fy": 9.0, "cx": 1.0, "cy": 1.0, "width": 9, "height": 9}}, 400, "bad_calibration",
    ),
    "no rotation": ({"base_from_camera": [[2.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}, 400,
                    "bad_calibration"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "status", "kind"), REFUSED.values(), ids=REFUSED)
def test_refusals_say_why(served: Served, change: dict[str, Any], status: int, kind: str) -> None:
    reply = post(served, "/v1/refer", json={"images": [b64(png())], "text": "the cup", **change})
    assert (reply.status_code, reply.json()["kind"]) == (status, kind), reply.text
    assert reply.json()["result"] == 0


def test_pixels_are_counted_before_anything_is_decoded(served: Served) -> None:
    bomb = io.BytesIO()
    Image.new("1", (8000, 7000)).save(bomb, "PNG")  # 56 megapixels in some kilobytes
    reply = post(served, "/v1/refer", json={"images": [b64(bomb.getvalue())], "text": "x"})
    assert (reply.status_code, reply.json()["kind"]) == (413, "too_large")


# --- /v1/depth ------------------------------------------------------------------------------------------------


def test_depth_pixel_is_what_the_robot_would_use(served: Served, depth_file: Path) -> None:
    data = {"px": "[320, 240]", "intrinsics": json.dumps(INTRINSICS.to_json()), "picture": "true"}
    found = post(served, "/v1/depth", files={"depth": ("d.png", depth_file.read_bytes())}, data=data).json()
    as_schema_says(found, "serve_depth")
    depth = decode_depth(depth_file.read_bytes(), name="depth", unit_m=0.001)
    assert isinstance(depth, MetricDepth)
    expected = lift((320, 240), depth.depth_m, INTRINSICS).camera_m
    assert expected is not None
    np.testing.assert_allclose(found["pixel"]["camera_m"], expected)
    assert found["pixel"]["depth_m"] == pytest.approx(found["pixel"]["camera_m"][2])
    assert found["range_m"][0] < found["pixel"]["depth_m"] < found["range_m"][1]
    assert Image.open(io.BytesIO(base64.b64decode(found["picture_png"]))).size == (640, 480)


def test_relative_depth_has_no_metres(served: Served) -> None:
    found = post(served, "/v1/depth", json={"depth": b64(png()), "px": [1, 1]}).json()
    assert (found["kind"], found["range_m"], found["pixel"]["depth_reason"]) == ("relative", None, "relative_depth")


def test_pixel_outside_is_refused(served: Served) -> None:
    reply = post(served, "/v1/depth", json={"depth": b64(png()), "px": [64, 0]})
    assert (reply.status_code, reply.json()["kind"]) == (400, "bad_depth")


# --- the house is full, time is over, the client leaves ----------------------------------------------------------


@pytest.fixture
def gate() -> Gate:
    return Gate()


LIMITS = ServeLimits(queue=2, deadline_s=0.5)
BODY = {"images": [b64(png())], "text": "the cup"}


def test_deadline_is_kept_though_the_model_hangs(gate: Gate) -> None:
    with running(gate) as thread, listening(thread, limits=LIMITS) as served:
        reply = post(served, "/v1/refer", json={**BODY, "deadline_ms": 100})
        assert (reply.status_code, reply.json()["kind"]) == (504, "deadline")


def test_full_house_is_429_with_a_time_and_the_client_that_left_makes_room(gate: Gate) -> None:
    limits = ServeLimits(queue=2, deadline_s=30)
    with running(gate, places=2) as thread, listening(thread, limits=limits) as served:
        body = json.dumps(BODY).encode()
        head = f"POST /v1/refer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", served.port)) as first:
            first.sendall(head + body)
            wait_until(lambda: thread._busy_since_s is not None)
            with socket.create_connection(("127.0.0.1", served.port)) as second:
                second.sendall(head + body)
                wait_until(lambda: thread.in_house == 2)
                reply = post(served, "/v1/refer", json=BODY)
                assert (reply.status_code, reply.json()["kind"]) == (429, "busy")
                assert int(reply.headers["Retry-After"]) >= 1
            wait_until(lambda: thread.in_house == 1)
    assert gate.texts == ["the cup"]


def test_loading_is_503_and_ready_says_so(gate: Gate) -> None:
    with running(gate) as thread, listening(thread) as served:
        thread._facts = None
        assert httpx.get(f"{served.url}/readyz").status_code == 503
        assert post(served, "/v1/refer", json=BODY).status_code == 503
        assert httpx.get(f"{served.url}/healthz").text == "ok\n"


# --- what else there is ---------------------------------------------------------------------------------------


def test_metrics_count_what_happened(served: Served, photo: Path) -> None:
    with EdgeClient(served.url) as client:
        assert client.refer(photo.read_bytes(), "Point to the blue cup.").valid
        assert client.state().bundle == "nano"
    text = httpx.get(f"{served.url}/metrics").text
    assert 'roborefer_requests_total{path="/v1/refer",status="200"}' in text
    assert 'roborefer_stage_seconds_count{stage="decode"}' in text
    assert "roborefer_ready 1.0" in text


def test_token_of_every_form_and_none(guarded: Served) -> None:
    url = f"{guarded.url}/metrics"
    for headers in ({}, {"Authorization": "Bearer wrong-token-000000"}, {"Authorization": "Basic !!!"}):
        assert httpx.get(url, headers=headers).status_code == 401
    assert httpx.get(url, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert httpx.get(url, auth=("anybody", TOKEN)).status_code == 200
    assert httpx.get(f"{guarded.url}/readyz").status_code == 200
    with EdgeClient(guarded.url, token=TOKEN) as client:
        assert client.depth_at(png(), (3, 3)).kind == "relative"


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Origin": "null"}], ids=str
)
def test_pages_of_others_may_not_ask(served: Served, headers: dict[str, str]) -> None:
    assert post(served, "/v1/refer", json=BODY, headers=headers).status_code == 403


def test_every_response_carries_the_security_headers(served: Served, guarded: Served) -> None:
    for reply in (httpx.get(served.url), httpx.get(f"{served.url}/nowhere"), httpx.get(f"{guarded.url}/metrics")):
        check_security_headers(reply)


def check_security_headers(reply: httpx.Response) -> None:
    assert "script-src 'self'" in reply.headers["Content-Security-Policy"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in reply.headers
    assert "server" not in reply.headers


def test_a_defect_is_a_500_like_every_response_counted_and_without_details(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_client: str) -> None:
        raise KeyError("a secret of the inside")

    with running(gate) as thread, listening(thread) as served:
        monkeypatch.setattr(thread, "check_room", broken)
        reply = post(served, "/v1/refer", json=BODY)
        assert (reply.status_code, reply.json()["kind"]) == (500, "defect")
        assert "secret" not in reply.text
        check_security_headers(reply)
        counted = httpx.get(f"{served.url}/metrics").text
        assert 'roborefer_requests_total{path="/v1/refer",status="500"} 1.0' in counted


def test_a_large_form_never_reaches_a_disk(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_disk(*_: object, **__: object) -> None:
        raise AssertionError("a file was made")

    monkeypatch.setattr(tempfile, "TemporaryFile", no_disk)
    large = png(1200, 1000)
    assert len(large) > 3 * 2**20
    assert post(served, "/v1/refer", files={"images": ("a.png", large)}, data={"text": "the cup"}).status_code == 200


def test_page_files_come_from_the_package_only(served: Served) -> None:
    assert httpx.get(f"{served.url}/page/page.js").headers["Content-Type"].startswith("text/javascript")
    for name in ("..%2Fapp.py", "../app.py", "%2e%2e/verb.py", "nothing.js", "page.js%00"):
        assert httpx.get(f"{served.url}/page/{name}").status_code == 404


def test_slow_body_is_not_waited_for(served: Served) -> None:
    for sent in (b"POST /query HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{", b"POST /query HT"):
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as slow:
            slow.sendall(sent)
            said = slow.recv(4096)
            assert said == b"" or b" 408 " in said.splitlines()[0]


def test_a_camera_is_checked(served: Served) -> None:
    lens = Intrinsics(fx=60.0, fy=60.0, cx=31.5, cy=23.5, width=64, height=48).to_json()
    reply = post(served, "/v1/refer", json={**BODY, "intrinsics": {**lens, "model": "fisheye"}})
    assert (reply.status_code, reply.json()["kind"]) == (400, "bad_calibration")
