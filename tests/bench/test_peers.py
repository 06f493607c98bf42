"""`bench peers`: rounds in rotated order, ratios within a round, rows that say why they are empty, one real run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import peers
from bench.peer_bundles import MaterialRequest, prepare
from bench.peer_worker import PeerRequest, question
from bench.peers import PeersRequest, lines_of, peers_of, run_peers
from bench.verb_child import VerbResult, run_verb
from bench.watch import Watched
from bench.work_folder import claim, stamp
from edge_runtime.bundle import shipped_bundle
from edge_runtime.errors import BudgetExceeded, ConfigError, InferenceError
from tests.flow.command_line import Shell, keeps_schema
from train.seeded import write_seeded


class Stand:
    """In place of `watch_module`: peers take so long per answer, round by round, or fail."""

    def __init__(self, took_ms: dict[str, Sequence[float]], fails: Sequence[str] = ()) -> None:
        self.took_ms = took_ms
        self.fails = fails
        self.order: list[str] = []
        self.asked: list[PeerRequest] = []

    def __call__(self, name: str, text: str, *, timeout_s: float, on_line: Any) -> Watched:
        request = PeerRequest.of_json(text)
        self.order.append(request.peer)
        self.asked.append(request)
        if request.peer in self.fails:
            return Watched(0, 3, timed_out=False, last_words="no such package", samples=())
        number = request.first // request.count
        facts = {"timings_ms": {"prefill": 1.0, "total": 2.0}, "prompt_tokens": 300, "generated_tokens": 14}
        on_line(json.dumps({"event": "opened", "t_ns": 2 * 10**9}))
        for i in range(request.count):
            total_ms = self.took_ms.get(request.peer, (50, 50, 50))[number]
            on_line(json.dumps({"event": "asked", "t_ns": (3 + i) * 10**9, "total_ms": total_ms, **facts}))
        return Watched(0, 0, timed_out=False, last_words="", samples=())


@pytest.fixture
def request_(tmp_path: Path) -> PeersRequest:
    """Ours and, as a stand-in with a bundle, the plain peer; no checkpoint."""
    bundle = shipped_bundle()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "plain").symlink_to(bundle)
    return PeersRequest(MaterialRequest(tmp_path / "out", bundle=bundle, export=bundle))


def measured(request: PeersRequest, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(peers, "watch_module", stand)
    report = run_peers(request)
    keeps_schema(json.loads(json.dumps(report)), "bench_peers")
    return {peer["name"]: peer for peer in report["peers"]}


def test_ratios_are_within_a_round(request_: PeersRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is twice as slow in the second round: times spread, ratios do not."""
    stand = Stand({"ours": (100, 200, 100), "plain": (150, 300, 160)})
    rows = measured(request_, stand, monkeypatch)
    assert rows["plain"]["ratio"] == {"median": 1.5, "low": 1.5, "high": 1.6}
    assert rows["plain"]["total_ms"] == {"median": 160, "low": 150, "high": 300}
    assert rows["ours"]["ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert rows["ours"]["rounds_ms"] == [[100] * 3, [200] * 3, [100] * 3]
    assert rows["ours"]["load_s"] == 2.0


def test_the_order_rotates_and_questions_are_new(request_: PeersRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand({"ours": (100,) * 3, "plain": (150,) * 3})
    measured(request_, stand, monkeypatch)
    assert stand.order == [
        "ours",
        "ours-forced",
        "plain",
        "ours-forced",
        "plain",
        "ours",
        "plain",
        "ours",
        "ours-forced",
    ]
    assert [asked.first for asked in stand.asked if asked.peer == "ours"] == [0, 3, 6]
    assert len({question(0, number) for number in range(9)}) == 9


def test_rows_that_cannot_be_measured_say_why(request_: PeersRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand({"ours": (100,) * 3}, fails=("plain",))
    rows = measured(request_, stand, monkeypatch)
    assert stand.order.count("plain") == 1
    assert (rows["plain"]["reason"], rows["plain"]["ratio"]) == ("no such package", None)
    assert "python -m train.seeded" in rows["transformers-bf16"]["reason"]
    report = json.loads((request_.material.out / "peers.json").read_text())
    assert any("no such package" in line for line in lines_of(report))


def test_without_ours_there_is_nothing_to_compare(request_: PeersRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "watch_module", Stand({"plain": (1,) * 3}, fails=("ours",)))
    with pytest.raises(InferenceError, match="ours could not be measured: no such package"):
        run_peers(request_)


def test_what_is_asked_has_to_make_sense(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name a CHECKPOINT"):
        prepare(MaterialRequest(tmp_path / "a"))
    with pytest.raises(ConfigError, match="leave out CHECKPOINT"):
        prepare(MaterialRequest(tmp_path / "b", bundle=shipped_bundle(), synthetic="nano"))
    only_ours = prepare(MaterialRequest(tmp_path / "c", bundle=shipped_bundle()))
    assert [peer.reason is None for peer in peers_of(only_ours)] == [True, True, False, False, False]
    with pytest.raises(ConfigError, match="begun with something else"):
        prepare(MaterialRequest(tmp_path / "c", export=shipped_bundle(), bundle=shipped_bundle()))


def test_work_goes_on_where_it_was_begun(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("1")
    first = stamp(tmp_path / "data")
    claim(tmp_path / "work", {"data": first, "n": 1})
    claim(tmp_path / "work", {"data": stamp(tmp_path / "data"), "n": 1})
    (tmp_path / "data" / "file").write_text("22")
    with pytest.raises(ConfigError, match="data was"):
        claim(tmp_path / "work", {"data": stamp(tmp_path / "data"), "n": 1})
    assert stamp(None) is None


def test_verbs_end_as_they_would_in_a_shell(tmp_path: Path) -> None:
    done = run_verb("check", tmp_path / "nothing", timeout_s=60)
    assert (done.verb, done.code) == ("check", 3)
    with pytest.raises(BudgetExceeded, match="bench compare: too slow"):
        VerbResult("bench compare", 6, None, "too slow", 0.1).insist()
    assert VerbResult("bench compare", 6, {"verdict": "worse"}, "", 0.1).insist(6) == {"verdict": "worse"}
    with pytest.raises(InferenceError, match="without its report"):
        VerbResult("export", 0, None, "no message", 0.1).insist()


@pytest.mark.slow  # export, two quantizers, three models in processes of their own
def test_a_tiny_checkpoint_and_its_peers(shell: Shell, tmp_path: Path) -> None:
    write_seeded(tmp_path / "checkpoint", "dynamic")
    asked = ("bench", "peers", tmp_path / "checkpoint", "--out", tmp_path / "out", "--threads", 1, "--json")
    done = shell(*asked, "--rounds", 1, "--count", 2, "--size", "64x48", "--answer-tokens", 5)
    assert done.code == 0, done.err
    keeps_schema(done.last_json, "bench_peers")
    rows = {peer["name"]: peer for peer in done.last_json["peers"]}
    for name in ("ours", "ours-forced", "plain", "transformers-bf16"):
        assert rows[name]["reason"] is None, rows[name]
        assert rows[name]["tokens"]["generated"] == 5  # stop tokens are ignored
        assert rows[name]["tokens"]["prompt"] == rows["ours"]["tokens"]["prompt"]
        assert len(rows[name]["rounds_ms"][0]) == 2
    page = shell("bench", "report", tmp_path / "out", "--out", tmp_path / "page.html", "--json")
    assert page.code == 0, page.err
    assert "bench_peers" in [source["kind"] for source in page.last_json["sources"]]


@pytest.mark.slow  # makes up nano, quantizes it twice
def test_a_made_up_shape_needs_no_torch(shell: Shell, tmp_path: Path) -> None:
    asked = ("bench", "peers", "--synthetic", "nano", "--out", tmp_path / "out", "--threads", 1, "--json")
    done = shell(*asked, "--rounds", 1, "--count", 1, "--warmup", 0, "--size", "64x48")
    assert done.code == 0, done.err
    measured_ = [peer["name"] for peer in done.last_json["peers"] if peer["reason"] is None]
    assert measured_ == ["ours", "ours-forced", "plain"]
