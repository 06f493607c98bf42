"""What speed was to reach, and what it came to; a bar without a measurement is said to have none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True)
class SpeedBar:
    """One thing that was to be reached."""

    name: str
    value: float | None  # None: not measured
    limit: float
    unit: str  # "ms", "MiB", "x" (a ratio)
    at_most: bool = True

    @property
    def verdict(self) -> str:
        """In one word."""
        if self.value is None:
            return "not measured"
        return "met" if (self.value <= self.limit) == self.at_most or self.value == self.limit else "**missed**"

    def row(self) -> str:
        """As a line of a Markdown table."""
        rule = f"{'at most' if self.at_most else 'at least'} {_said(self.limit, self.unit)}"
        value = "-" if self.value is None else _said(self.value, self.unit)
        return f"| {self.name} | {value} | {rule} | {self.verdict} |"


def bars_of(found: Json) -> Iterator[SpeedBar]:
    """Every bar, in the order of the page."""
    small, again = found.get("small"), found.get("small_again")
    large, large_again = found.get("large"), found.get("large_again")
    yield SpeedBar("nano: question to point, p50", _p50(small), 120, "ms")
    yield SpeedBar("nano against transformers bf16", _against(found.get("small_peers"), "transformers-bf16"), 0.5, "x")
    yield SpeedBar("nano: process start to first answer", _told(small, "cold_start_s", 1e3), 1500, "ms")
    yield SpeedBar("nano: memory held", _told(small, "peak_held_mib"), _memory_limit(small), "MiB")
    yield SpeedBar("nano: the same picture asked again", _ratio(_p50(again), _p50(small)), 0.25, "x")
    yield SpeedBar("2B shape against the fastest peer", _against_fastest(found.get("large_peers")), 0.7, "x")
    yield SpeedBar("2B shape: the same picture asked again", _ratio(_p50(large_again), _p50(large)), 0.25, "x")
    yield SpeedBar("2B shape: memory held", _told(large, "peak_held_mib"), _memory_limit(large), "MiB")
    yield from _encoder_bars(found.get("large_peers"))
    yield from _decoder_bars(found.get("decoder_builds"), found.get("large_floor"))


def _encoder_bars(peers: Json | None) -> Iterator[SpeedBar]:
    """Both towers of one picture with depth, as the peers' table has them."""
    rows = (peer(peers, name) for name in ("ours", "plain", "transformers-bf16"))
    ours, plain, torch = (encoders_ms(row) if row else None for row in rows)
    yield SpeedBar("so400m/448 encoders against plain dynamic INT8", _ratio(ours, plain), 0.8, "x")
    yield SpeedBar("so400m/448 encoders against transformers bf16", _ratio(ours, torch), 1.0, "x")


def _decoder_bars(builds: Json | None, floor: Json | None) -> Iterator[SpeedBar]:
    """What a plain `pip install` gives is the measure of prefill and decode."""
    for part, limit in (("prefill", 2.0), ("decode", 1.5)):
        faster = builds["times_faster"][part]["median"] if builds else None
        yield SpeedBar(f"2B shape, {part}: times faster than a plain pip install", faster, limit, "x", at_most=False)
    share = None
    if floor is not None and (decode := floor["here"]["stages"].get("decode")):
        share = decode["predicted"] / decode["measured"]
    yield SpeedBar("2B shape, decode: share of the memory-read limit", share, 0.7, "x", at_most=False)


def peer(report: Json | None, name: str) -> Json | None:
    """A row of a peers' report, if that peer was measured."""
    rows = [row for row in (report or {"peers": []})["peers"] if row["name"] == name and row["ratio"]]
    return rows[0] if rows else None


def _against(report: Json | None, name: str) -> float | None:
    row = peer(report, name)
    return 1 / float(row["ratio"]["median"]) if row else None


def _against_fastest(report: Json | None) -> float | None:
    """Ours by its own way of decoding, against the fastest of the others."""
    others = [row for name in ("plain", "transformers-bf16", "transformers-nf4") if (row := peer(report, name))]
    best = min((row for name in ("ours", "ours-forced") if (row := peer(report, name))), key=_ms, default=None)
    if best is None or not others:
        return None
    return _ms(best) / min(map(_ms, others))


def _ms(row: Json) -> float:
    return float(row["total_ms"]["median"])


def encoders_ms(row: Json) -> float:
    """What is left of an answer without the other stages: towers that run side by side do not add up."""
    rest = sum(row["stages_ms"].get(stage, 0.0) for stage in ("preprocess", "prefill", "decode", "parse"))
    return _ms(row) - float(rest)


def _memory_limit(report: Json | None) -> float:
    """1.2 times the bundle and 350 MiB."""
    return 350 + 1.2 * report["bundle"]["bytes"] / 2**20 if report else 350


def _told(report: Json | None, key: str, factor: float = 1.0) -> float | None:
    return None if report is None or report[key] is None else float(report[key]) * factor


def _p50(report: Json | None) -> float | None:
    return float(report["stages_ms"]["total"]["p50"]) if report else None


def _ratio(value: float | None, of: float | None) -> float | None:
    return value / of if value is not None and of else None


def _said(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.2f}x"
    return f"{value:.0f} {unit}"
