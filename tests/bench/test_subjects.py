"""Subjects: a real bundle, a real HTTP server on this machine, and baselines that know nothing."""

import base64
import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.answers import Answered
from bench.datasets import Dataset, open_dataset
from bench.server_subject import ServerSubject
from bench.subjects import (
    GREY,
    PipelineSubject,
    SubjectChoice,
    answered,
    blanked,
    bundle_modality,
    open_subject,
    server_modality,
)
from edge_runtime.bundle import shipped_bundle
from edge_runtime.errors import ConfigError, DataError, NoValidAnswer
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import MetricDepth, RelativeDepth
from tests.bench.tiny_dataset import entry, write_folders, write_questions

Reply = Callable[[dict[str, Any]], tuple[int, bytes]]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return open_dataset(write_folders(tmp_path_factory.mktemp("d") / "tiny"))


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with Pipeline.open(shipped_bundle()) as opened:
        yield opened


def ask_all(choice: SubjectChoice, dataset: Dataset) -> list[Answered]:
    with open_subject(choice, dataset) as subject:
        return [subject.answer(sample) for sample in dataset.samples]


# --- a bundle -------------------------------------------------------------------------------------------


def test_a_bundle_answers_as_the_robot_does(pipeline: Pipeline, tiny: Dataset) -> None:
    sample = tiny.samples[0]
    subject = PipelineSubject(pipeline, modality="rgbd")
    found = subject.answer(sample)
    robot = pipeline.refer([sample.view(with_depth=True)], sample.prompt)  # appends the suffix by itself
    assert found.text == robot.answer
    assert found.points == tuple(point.norm for point in robot.points)
    assert found.confidence == pytest.approx(max(point.confidence for point in robot.points))
    assert found.valid
    assert found.tokens["prompt"] == robot.prompt_tokens
    assert set(found.timings_ms) == set(robot.timings_ms)


def test_modality_decides_whether_depth_is_seen(pipeline: Pipeline, tiny: Dataset) -> None:
    rgb, rgbd = (PipelineSubject(pipeline, modality=m).answer(tiny.samples[0]) for m in ("rgb", "rgbd"))
    assert rgb.tokens["prompt"] < rgbd.tokens["prompt"]


def test_a_bundle_says_what_decides_its_answers(pipeline: Pipeline) -> None:
    about = PipelineSubject(pipeline, modality="rgbd", max_tiles=3, grammar=False).about
    assert (about["kind"], about["modality"]) == ("bundle", "rgbd")
    assert about["settings"]["max_tiles"] == 3
    assert about["settings"]["grammar"] is False
    assert len(about["settings"]["manifest_sha256"]) == 64
    json.dumps(about)


def test_a_dataset_with_a_suffix_of_its_own_is_still_read(pipeline: Pipeline, tiny: Dataset) -> None:
    view = tiny.samples[0].view(with_depth=False)
    free = answered(pipeline.refer([view], "Where is the cup?", raw_prompt=True, max_tokens=4))
    assert free.valid is False
    assert free.reason


@pytest.mark.parametrize(
    ("asked", "takes", "has", "expected"),
    [
        (None, True, True, "rgbd"), (None, True, False, "rgb"), (None, False, True, "rgb"), ("rgb", True, True, "rgb"),
        ("rgbd", True, True, "rgbd"), ("rgbd", False, True, None), ("rgbd", True, False, None),
    ],
)  # fmt: skip
def test_modality_of_a_bundle(asked: str | None, takes: bool, has: bool, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError, match="--modality rgb"):
            bundle_modality(asked, takes_depth=takes, has_depth=has)
    else:
        assert bundle_modality(asked, takes_depth=takes, has_depth=has) == expected


def test_modality_of_a_server_is_upstreams_rule() -> None:
    assert server_modality(None, "RoboRefer-2B-Depth-Align") == "rgbd"
    assert server_modality(None, "RoboRefer-2B-SFT") == server_modality(None, None) == "rgb"
    assert server_modality("rgbd", "RoboRefer-2B-SFT") == "rgbd"


# --- baselines ------------------------------------------------------------------------------------------


def test_the_centre(tiny: Dataset) -> None:
    assert {found.text for found in ask_all(SubjectChoice(baseline="centre"), tiny)} == {"[(0.500, 0.500)]"}


def test_a_random_object_is_one_of_them_and_seeded(tiny: Dataset) -> None:
    first = ask_all(SubjectChoice(baseline="random-object", seed=1), tiny)
    assert {found.text for found in first} == {"[(0.250, 0.500)]", "[(0.750, 0.500)]"}
    assert ask_all(SubjectChoice(baseline="random-object", seed=1), tiny) == first
    assert any(ask_all(SubjectChoice(baseline="random-object", seed=s), tiny) != first for s in range(2, 6))


@pytest.mark.parametrize(("objects", "error"), [(None, ConfigError), ([], ConfigError), ([[1]], DataError)])
def test_a_random_object_needs_objects(dataset: Path, objects: object, error: type[Exception]) -> None:
    write_questions(dataset / "Location", [entry(0), entry(1, objects=objects)])
    with pytest.raises(error, match="question 1 of Location"):
        ask_all(SubjectChoice(baseline="random-object"), open_dataset(dataset))


def test_blank_shows_the_bundle_nothing(tiny: Dataset) -> None:
    view = blanked(tiny.samples[0].view(with_depth=True))
    assert (view.rgb == GREY).all()
    assert isinstance(view.depth, RelativeDepth)
    assert not view.depth.picture.any()
    assert blanked(tiny.samples[0].view(with_depth=False)).depth is None


def test_blank_answers_alike_whatever_the_picture(tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "same", per_split=2)
    for split in ("Location", "Placement"):
        write_questions(folder / split, [entry(n, prompt="Point at the cup.") for n in range(2)])
    with open_subject(SubjectChoice(baseline="blank"), open_dataset(folder)) as subject:
        assert subject.about["kind"] == "baseline"
        assert str(subject.about["name"]).startswith("blank:")
        assert len({subject.answer(sample).text for sample in open_dataset(folder).samples}) == 1


@pytest.mark.parametrize(
    "choice",
    [
        SubjectChoice(modality="depth"),
        SubjectChoice(baseline="oracle"),
        SubjectChoice(url="http://h", baseline="centre"),
        SubjectChoice(url="http://h", bundle=Path("b")),
        SubjectChoice(bundle=Path("b"), baseline="centre"),
        SubjectChoice(url="ftp://h"),
        SubjectChoice(url="localhost:25547"),
        SubjectChoice(url="http://h:port"),
    ],
    ids=str,
)
def test_contradictions_are_refused(tiny: Dataset, choice: SubjectChoice) -> None:
    with pytest.raises(ConfigError):
        ask_all(choice, tiny)


# --- a server -------------------------------------------------------------------------------------------


class QueryServer:
    """A server that speaks upstream's protocol; `replies` are given in turn, the last one for ever."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.asked.append(body)
                owner.headers.append({**dict(self.headers), "path": self.path})
                reply = owner.replies.pop(0) if len(owner.replies) > 1 else owner.replies[0]
                code, data = reply(body)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who asked did not wait
                    self.send_response(code)
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def subject(self, *, with_depth: bool = False, timeout_s: float = 10.0, url: str | None = None) -> ServerSubject:
        return ServerSubject(
            url or self.url, model_name="m", with_depth=with_depth, timeout_s=timeout_s, pause=lambda _: None
        )


@pytest.fixture
def server() -> Iterator[QueryServer]:
    started = QueryServer()
    thread = threading.Thread(target=started.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield started
    started.server.shutdown()
    thread.join()
    started.server.server_close()


def says(answer: object, code: int = 200) -> Reply:
    return lambda _: (code, json.dumps({"result": 1, "answer": answer}).encode())


def test_a_server_is_asked_as_upstreams_client_asks(server: QueryServer, tiny: Dataset) -> None:
    server.replies = [says("[(0.1, 0.2)]")]
    sample = tiny.samples[1]
    found = server.subject().answer(sample)
    assert (found.text, found.points, found.confidence, found.valid) == ("[(0.1, 0.2)]", None, None, None)
    assert found.timings_ms["total"] > 0
    [asked] = server.asked
    assert asked["text"] == sample.instruction
    assert (asked["enable_depth"], asked["depth_url"]) == (0, [])
    assert base64.b64decode(asked["image_url"][0]) == sample.image.read()
    assert server.headers[0]["path"] == "/query"


def test_metric_depth_is_sent_as_a_picture_near_bright(server: QueryServer, tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "d", per_split=1)
    depth = np.full((48, 64), 2000, np.uint16)
    depth[:, :32] = 500
    Image.fromarray(depth).save(folder / "Location" / "depth" / "0.png")
    sample = open_dataset(folder).samples[0]
    assert isinstance(sample.view(with_depth=True).depth, MetricDepth)
    server.replies = [says("")]
    server.subject(with_depth=True).answer(sample)
    [asked] = server.asked
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(asked["depth_url"][0]))))
    assert (asked["enable_depth"], str(picture.dtype), picture.shape) == (1, "uint8", (48, 64, 3))
    assert picture[0, 0].min() > picture[0, -1].max()


def test_without_depth_the_server_is_left_to_estimate_it(server: QueryServer, tmp_path: Path) -> None:
    server.replies = [says("")]
    server.subject(with_depth=True).answer(open_dataset(write_folders(tmp_path / "d", depth=False)).samples[0])
    assert (server.asked[0]["enable_depth"], server.asked[0]["depth_url"]) == (1, [])


def test_a_token_in_the_address_becomes_a_header_and_is_not_recorded(server: QueryServer, tiny: Dataset) -> None:
    server.replies = [says("")]
    subject = server.subject(url=server.url.replace("http://", "http://robot:s%40cret@"))
    subject.answer(tiny.samples[0])
    assert server.headers[0]["Authorization"] == "Basic " + base64.b64encode(b"robot:s@cret").decode()
    assert "cret" not in json.dumps(subject.about)


def test_a_stumble_is_forgiven(server: QueryServer, tiny: Dataset) -> None:
    server.replies = [says("", 503), says("", 500), says("[(0.5, 0.5)]")]
    assert server.subject().answer(tiny.samples[0]).text == "[(0.5, 0.5)]"
    assert len(server.asked) == 3


def test_a_server_that_stays_broken_ends_the_run(server: QueryServer, tiny: Dataset) -> None:
    server.replies = [lambda _: (500, b"out of memory")]
    with pytest.raises(NoValidAnswer, match=r"3 tries .*HTTP 500 out of memory"):
        server.subject().answer(tiny.samples[0])


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (lambda _: (401, b"who are you?"), "refused the question: HTTP 401 who are you"),
        (lambda _: (200, b"<html>"), "did not answer in JSON"),
        (lambda _: (200, b"[1]"), "sends an `answer`"),
        (says(None), "sends an `answer`"),
    ],
    ids=["refused", "html", "list", "null"],
)
def test_what_is_no_roborefer_server_is_asked_once(
    server: QueryServer, tiny: Dataset, reply: Reply, message: str
) -> None:
    server.replies = [reply]
    with pytest.raises(DataError, match=message):
        server.subject().answer(tiny.samples[0])
    assert len(server.asked) == 1


def test_a_silent_server_is_not_waited_for(server: QueryServer, tiny: Dataset) -> None:
    released = threading.Event()

    def silent(_: dict[str, Any]) -> tuple[int, bytes]:
        released.wait(5)
        return 200, b"{}"

    server.replies = [silent]
    try:
        with pytest.raises(NoValidAnswer, match="timed out"):
            server.subject(timeout_s=0.05).answer(tiny.samples[0])
    finally:
        released.set()


def test_nobody_there(tiny: Dataset) -> None:
    subject = ServerSubject(
        "http://127.0.0.1:9", model_name=None, with_depth=False, timeout_s=1.0, pause=lambda _: None
    )
    assert subject.model_id == "127.0.0.1:9"
    with pytest.raises(NoValidAnswer, match="Is the server running"):
        subject.answer(tiny.samples[0])
