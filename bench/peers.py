"""`bench peers`: the same questions put to others on the same machine, one process at a time.

Each peer is a process that loads, warms up, answers three questions and leaves, so nobody shares memory, caches or
threads with anybody. That is repeated in rounds, each of them in another order: what the machine does meanwhile (heat,
other work) then falls on everybody. What counts is the ratio to ours within a round, and how it spreads over rounds;
the times themselves belong to this machine on this day.
"""

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.accuracy import write_report
from bench.latency import Window
from bench.machine import machine_card
from bench.peer_bundles import NO_CHECKPOINT, NO_EXPORT, Material, MaterialRequest, prepare
from bench.peer_worker import PeerRequest
from bench.watch import Watched, watch_module
from edge_runtime.errors import InferenceError

REPORT = "peers.json"
AGAINST = "ours"
ANSWER_TOKENS = 14  # one point as the models of the paper write it

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """One row of the result."""

    name: str
    what: str
    path: Path | None  # its weights
    reason: str | None = None  # why it cannot be measured here


@dataclass(frozen=True)
class PeersRequest:
    """Whom to ask what, how often."""

    material: MaterialRequest
    rounds: int = 3
    count: int = 3  # answers in a round
    warmup: int = 1
    width: int = 640
    height: int = 480
    depth: bool = True
    answer_tokens: int = ANSWER_TOKENS
    seed: int = 0
    threads: int | None = None
    device: str = "cpu"  # of torch
    timeout_s: float = 3600.0  # of one process


@dataclass(frozen=True)
class Round:
    """What one process of a peer did."""

    totals_ms: tuple[float, ...]
    stages_ms: tuple[Mapping[str, float], ...]
    tokens: tuple[tuple[int, int], ...]  # prompt, generated
    load_s: float
    peak_held_mib: float | None
    other_load_cores: float | None

    @property
    def median_ms(self) -> float:
        """Of its answers."""
        return statistics.median(self.totals_ms)


@dataclass
class _Measured:
    """A peer's rounds as they come in."""

    peer: Peer
    rounds: dict[int, Round] = field(default_factory=dict)
    reason: str | None = None


def run_peers(request: PeersRequest, *, on_step: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Prepare, measure and write; the object of docs/schema/bench_peers.json.

    Raises:
        ConfigError: Too little is given, or flags contradict.
        InferenceError: Ours itself could not be measured.
        EdgeError: The weights could not be prepared.
    """
    card = machine_card()
    material = prepare(request.material, on_step=on_step)
    measured = {peer.name: _Measured(peer, reason=peer.reason) for peer in peers_of(material)}
    able = [one for one in measured.values() if one.reason is None]
    for number in range(request.rounds):
        for one in rotated(able, number):
            if one.reason is None:
                on_step(f"round {number + 1} of {request.rounds}: {one.peer.what}")
                _measure(one, request, number)
    if (why := measured[AGAINST].reason) is not None:
        raise InferenceError(f"ours could not be measured: {why}")
    report = _report(request, list(measured.values()), card.to_json())
    write_report(request.material.out / REPORT, report)
    return report


def peers_of(material: Material) -> list[Peer]:
    """Everybody, whether or not there is something to run."""
    ours, plain, checkpoint = material.ours, material.plain, material.checkpoint
    no_checkpoint = None if checkpoint is not None else NO_CHECKPOINT
    return [
        Peer("ours", "ours, every token decoded", ours),
        Peer("ours-forced", "ours, grammar-forced tokens", ours),
        Peer(
            "plain",
            "plain onnxruntime INT8 + llama.cpp Q8_0",
            plain,
            reason=None if plain is not None else NO_EXPORT,
        ),
        Peer("transformers-bf16", "transformers bf16", checkpoint, reason=no_checkpoint),
        Peer("transformers-nf4", "transformers + bitsandbytes NF4", checkpoint, reason=no_checkpoint),
    ]


def rotated(peers: Sequence[_Measured], number: int) -> list[_Measured]:
    """The order of a round: everybody comes first once in as many rounds as there are peers."""
    start = number % len(peers)
    return [*peers[start:], *peers[:start]]


# --- measuring ------------------------------------------------------------------------------------------


def _measure(one: _Measured, request: PeersRequest, number: int) -> None:
    """One process; a peer that fails says why and is not asked again."""
    assert one.peer.path is not None
    asked = PeerRequest(
        peer=one.peer.name,
        path=str(one.peer.path),
        first=number * request.count,
        count=request.count,
        warmup=request.warmup,
        width=request.width,
        height=request.height,
        depth=request.depth,
        answer_tokens=request.answer_tokens,
        seed=request.seed,
        n_threads=request.threads,
        device=request.device,
    )
    events: list[dict[str, Any]] = []
    watched = watch_module(
        "bench.peer_worker",
        asked.to_json(),
        timeout_s=request.timeout_s,
        on_line=lambda line: events.append(json.loads(line)),
    )
    one.reason = _failure(watched, request.timeout_s)
    if one.reason is None:
        one.rounds[number] = round_of(events, watched)


def round_of(events: Sequence[Json], watched: Watched) -> Round:
    """Sum up what a process said and what was seen of it."""
    opened = next(e for e in events if e["event"] == "opened")
    asked = [e for e in events if e["event"] == "asked"]
    held = [s.memory.held_mib for s in watched.samples if s.memory is not None]
    return Round(
        totals_ms=tuple(e["total_ms"] for e in asked),
        stages_ms=tuple(e["timings_ms"] for e in asked),
        tokens=tuple((e["prompt_tokens"], e["generated_tokens"]) for e in asked),
        load_s=(opened["t_ns"] - watched.started_ns) / 1e9,
        peak_held_mib=max(held, default=None),
        other_load_cores=Window(opened["t_ns"], asked[-1]["t_ns"], watched.samples).other_load_cores(),
    )


def _failure(watched: Watched, timeout_s: float) -> str | None:
    if watched.timed_out:
        return f"it was not done within {timeout_s:g} s and was stopped"
    if watched.returncode < 0:
        return f"it was ended by signal {-watched.returncode}; 9 mostly means that memory ran out"
    return None if watched.returncode == 0 else watched.last_words


# --- the result -----------------------------------------------------------------------------------------


def _report(request: PeersRequest, measured: Sequence[_Measured], card: Json) -> dict[str, Any]:
    base = next(one for one in measured if one.peer.name == AGAINST)
    loads = [r.other_load_cores for one in measured for r in one.rounds.values() if r.other_load_cores is not None]
    return {
        "kind": "bench_peers",
        "against": base.peer.what,
        "workload": {
            "rounds": request.rounds,
            "count": request.count,
            "warmup": request.warmup,
            "width": request.width,
            "height": request.height,
            "depth": request.depth,
            "answer_tokens": request.answer_tokens,
            "seed": request.seed,
            "threads": request.threads,
        },
        "peers": [_row(one, base) for one in measured],
        "other_load_cores": round(statistics.median(loads), 2) if loads else None,
        "machine": dict(card),
    }


def _row(one: _Measured, base: _Measured) -> dict[str, Any]:
    """One peer; ratios first."""
    rounds = one.rounds if one.reason is None else {}
    ratios = [found.median_ms / base.rounds[number].median_ms for number, found in rounds.items()]
    return {
        "name": one.peer.name,
        "what": one.peer.what,
        "ratio": _middle(ratios, 3),
        "reason": one.reason,
        "total_ms": _middle([found.median_ms for found in rounds.values()], 2),
        "rounds_ms": [[round(ms, 2) for ms in found.totals_ms] for found in rounds.values()],
        "stages_ms": _stages([stages for found in rounds.values() for stages in found.stages_ms]),
        "tokens": _tokens([pair for found in rounds.values() for pair in found.tokens]),
        "load_s": _median([found.load_s for found in rounds.values()], 2),
        "peak_held_mib": _median([f.peak_held_mib for f in rounds.values() if f.peak_held_mib is not None], 1),
    }


def _middle(values: Sequence[float], digits: int) -> dict[str, float] | None:
    """Median and both ends over the rounds."""
    if not values:
        return None
    found = {"median": statistics.median(values), "low": min(values), "high": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def _stages(told: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {stage: round(statistics.median(one[stage] for one in told), 2) for stage in (told[0] if told else {})}


def _tokens(told: Sequence[tuple[int, int]]) -> dict[str, float] | None:
    if not told:
        return None
    return {name: statistics.median(pair[i] for pair in told) for i, name in enumerate(("prompt", "generated"))}


def _median(values: Sequence[float], digits: int) -> float | None:
    return round(statistics.median(values), digits) if values else None


def lines_of(report: Json) -> Iterator[str]:
    """The comparison as a person reads it: ratios first."""
    work = report["workload"]
    yield (
        f"time of an answer, times that of {report['against']!r}: median of {work['rounds']} rounds "
        f"({work['count']} answers each, {work['answer_tokens']} tokens, {work['width']}x{work['height']})"
    )
    yield f"{'':<42}{'ratio':>8}{'lowest to highest':>20}{'ms':>10}{'load s':>8}{'held MiB':>10}"
    for peer in report["peers"]:
        ratio = peer["ratio"]
        if ratio is None:
            yield f"{peer['what']:<42}{'-':>8}  {peer['reason']}"
            continue
        span = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
        held = "-" if peer["peak_held_mib"] is None else f"{peer['peak_held_mib']:.0f}"
        yield (
            f"{peer['what']:<42}{ratio['median']:>8.2f}{span:>20}{peer['total_ms']['median']:>10.1f}"
            f"{peer['load_s']:>8.1f}{held:>10}"
        )
    if (load := report["other_load_cores"]) is not None and load > 0.1:
        yield f"warning: other processes kept {load:.1f} cores busy meanwhile; trust the ratios, not the times"
