"""The loop: which frames are answered, what each line says, when it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.answer_loop import AnswerLoop
from edge_runtime.errors import ConfigError, StorageError
from edge_runtime.loop_records import LoopLimits
from edge_runtime.publish import JsonLinesSink, open_sink
from hardware.errors import CameraLost, CameraTimeout
from tests.fakes import EchoReferrer, ScriptedCamera, make_frame


class ListSink:
    """Keeps what is published."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def write(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def close(self) -> None:
        pass


def run(camera: ScriptedCamera, referrer: EchoReferrer | None = None, **limits):
    sink = ListSink()
    loop = AnswerLoop(
        camera, referrer or EchoReferrer(), [sink], limits=LoopLimits(**limits), clock=lambda: 1_000_000_000
    )
    summary = loop.summary(loop.run("the cup"))
    return summary, sink.records


def test_a_recording_is_answered_frame_by_frame_to_its_end() -> None:
    summary, records = run(ScriptedCamera([make_frame(i) for i in range(4)]))
    assert [r["frame"]["id"] for r in records] == [0, 1, 2, 3]
    assert (summary.answers, summary.valid_answers, summary.dropped, summary.ended) == (4, 4, 0, "end_of_replay")


def test_a_live_camera_skips_to_the_newest_frame_and_counts_what_it_skipped() -> None:
    summary, records = run(ScriptedCamera([make_frame(i) for i in range(9)], live=True, skip=2), max_answers=3)
    assert [r["frame"]["id"] for r in records] == [2, 5, 8]
    assert [r["dropped"] for r in records] == [2, 2, 2]
    assert (summary.dropped, summary.frames, summary.ended) == (6, 9, "max_answers")


def test_the_same_live_frame_is_never_answered_twice() -> None:
    """After the newest frame was answered the loop waits for another one instead of asking again."""
    camera = ScriptedCamera([make_frame(0), make_frame(1)], live=True)
    summary, records = run(camera)
    assert [r["frame"]["id"] for r in records] == [0, 1]
    assert summary.answers == 2


def test_age_counts_from_capture_and_depth_is_in_metres() -> None:
    _, records = run(ScriptedCamera([make_frame(1, z_counts=1234, t_capture_ns=950_000_000)]))
    assert records[0]["age_ms"] == pytest.approx(50.0)
    assert records[0]["points"][0]["camera_m"][2] == pytest.approx(1.234)
    assert records[0]["kind"] == "answer"


def test_several_instructions_take_turns_and_each_record_says_which_it_answers() -> None:
    sink, referrer = ListSink(), EchoReferrer()
    camera = ScriptedCamera([make_frame(i) for i in range(5)])
    loop = AnswerLoop(camera, referrer, [sink], limits=LoopLimits(max_answers=4), clock=lambda: 0)
    assert loop.run("the cup", "the plate", "the spoon") == "max_answers"
    assert [(r["frame"]["id"], r["instruction"]) for r in sink.records] == [
        (0, "the cup"),
        (1, "the plate"),
        (2, "the spoon"),
        (3, "the cup"),
    ]
    assert [text for text, _ in referrer.asked] == [r["instruction"] for r in sink.records]


def test_a_single_instruction_is_not_repeated_in_every_record() -> None:
    _, records = run(ScriptedCamera([make_frame(0)]))
    assert "instruction" not in records[0]


def test_invalid_answers_are_published_and_counted() -> None:
    summary, records = run(ScriptedCamera([make_frame(0)]), EchoReferrer(valid=False))
    assert (summary.answers, summary.valid_answers) == (1, 0)
    assert records[0]["reason"]


@pytest.mark.parametrize("fault", [CameraTimeout("silent"), CameraLost("unplugged")])
def test_a_camera_fault_is_not_swallowed(fault: Exception) -> None:
    with pytest.raises(type(fault)):
        run(ScriptedCamera([make_frame(0), fault]))


# --- the jsonl sink ----------------------------------------------------------------------------------


def test_lines_are_appended_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "log/answers.jsonl"
    for number in range(2):  # a service that restarts keeps what it wrote
        with JsonLinesSink(path) as sink:
            sink.write({"kind": "answer", "n": number, "text": "ü"})
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [0, 1]


def test_numbers_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    with JsonLinesSink(tmp_path / "x.jsonl") as sink, pytest.raises(ValueError, match="JSON compliant"):
        sink.write({"z": float("nan")})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_storage_error() -> None:
    with JsonLinesSink(Path("/dev/full")) as sink, pytest.raises(StorageError, match="No space left"):
        sink.write({"kind": "answer"})


FULL_DISK = """
import resource, sys
from pathlib import Path
from edge_runtime.errors import StorageError
from edge_runtime.publish import JsonLinesSink
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
with JsonLinesSink(Path(sys.argv[1])) as sink:
    sink.write({"n": 1, "text": "x" * 600})
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        sink.write({"n": 2, "text": "x" * 600})
    except StorageError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    sink.write({"n": 3})
"""


def test_a_disk_that_fills_within_a_line_leaves_whole_lines(tmp_path: Path) -> None:
    """The kernel takes the first 1000 bytes, as a full disk takes the last free block, and says how many it took."""
    path = tmp_path / "a.jsonl"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert done.stdout.startswith(f"cannot write {path}: File too large")
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == [1, 3]


def test_sinks_are_named_on_the_command_line(tmp_path: Path) -> None:
    sink = open_sink(f"jsonl:{tmp_path / 'a.jsonl'}")
    assert isinstance(sink, JsonLinesSink)
    sink.write({"n": 1})
    sink.close()
    assert (tmp_path / "a.jsonl").read_text() == '{"n": 1}\n'
    with pytest.raises(ConfigError, match="available: jsonl"):
        open_sink("carrier-pigeon")
