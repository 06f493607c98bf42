"""A recorded run, played again, gives the same answers; other programs get every record."""

import json
import socket
from pathlib import Path

import pytest

from tests.flow.command_line import Shell, keeps_schema
from tests.synthetic_scene import write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    write_clip(tmp_path / "clip", count=3, width=160, height=120, shadow_samples=1, supersample=1, rgb_format="png")
    return tmp_path / "clip"


def test_a_run_recorded_as_mcap_gives_the_same_answers_again(shell: Shell, clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("mcap", reason="needs the extra viz")
    recording = tmp_path / "run.mcap"
    first = shell("run", "the cup", "--camera", clip, "--sink", f"mcap:{recording}", "--json")
    assert first.code == 0, first.err
    keeps_schema(first.last_json, "run")
    again = shell("run", "the cup", "--camera", recording, "--json")
    assert again.code == 0, again.err
    one, other = ([json.loads(line) for line in run.out.splitlines()[:-1]] for run in (first, again))
    assert len(one) == 3
    assert [(a["answer"], a["points"]) for a in one] == [(a["answer"], a["points"]) for a in other]


def test_a_sink_that_cannot_be_leaves_nothing_of_the_one_before(shell: Shell, clip: Path, tmp_path: Path) -> None:
    pytest.importorskip("mcap", reason="needs the extra viz")
    recording = tmp_path / "recordings/run.mcap"
    outcome = shell("run", "the cup", "--camera", clip, "--sink", f"mcap:{recording}", "--sink", "fax")
    assert outcome.code == 2
    assert "unknown sink 'fax'" in outcome.err
    assert list(recording.parent.iterdir()) == []


def test_datagrams_are_the_printed_records(shell: Shell, clip: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiving:
        receiving.bind(("127.0.0.1", 0))
        receiving.settimeout(10)
        port = receiving.getsockname()[1]
        outcome = shell("run", "the cup", "--camera", clip, "--sink", f"udp:127.0.0.1:{port}", "--json")
        assert outcome.code == 0, outcome.err
        sent = [json.loads(receiving.recv(65536)) for _ in range(3)]
    assert sent == [json.loads(line) for line in outcome.out.splitlines()[:-1]]
