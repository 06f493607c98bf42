"""Learning curves from a work folder's log: a table on the terminal, a picture for the docs.

    python -m train.nano.curves runs/nano docs/nano_curves.svg

The picture is plain SVG written here: two panels over training minutes, one line per figure, latest values beside.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hardware.storage import storage_errors

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _GAP = 760, 240, 46, 180, 26, 62
_BIN_PX = 5  # of the time axis, over which learning figures are averaged
_COLOURS = ("#0b6fa4", "#d1495b", "#3a7d44", "#8a5a9e", "#c98a1b")
_LEARNING = ("noun", "depth_noun", "pointer_hit", "anchor_hit", "digit1_right")
_CALLED = {
    "noun": "noun, RGB tower", "depth_noun": "noun, depth tower", "pointer_hit": "pointer at the target",
    "anchor_hit": "pointer at the anchors", "digit1_right": "first digits in text",
}  # fmt: skip

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Curves:
    """Figures over minutes of all stages together."""

    learning: dict[str, Points]  # shares of right answers on training batches
    held_out: dict[str, Points]  # shares of hits per split on held-out scenes
    stage_starts: list[tuple[str, float]]  # minutes


def read_records(log: Path) -> list[dict[str, Any]]:
    """The records of a log that still hold.

    A killed run goes on from what it saved last and writes some steps a second time, and its last line may be cut.

    Raises:
        FileNotFoundError: There is none.
    """
    records: list[dict[str, Any]] = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        while records and _is_repeated(records[-1], record):
            records.pop()
        records.append(record)
    return records


def _is_repeated(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a record tells of steps that were made again; an evaluation stands beside the figures of its step."""
    if before["stage"] != now["stage"]:
        return False
    return before["step"] > now["step"] or (before["step"] == now["step"] and ("eval" in before or "eval" not in now))


def read_curves(log: Path) -> Curves:
    """Read a log.

    Raises:
        FileNotFoundError: There is none.
    """
    curves = Curves({}, {}, [])
    before, latest = 0.0, 0.0
    for record in read_records(log):
        if not curves.stage_starts or curves.stage_starts[-1][0] != record["stage"]:
            before = latest
            curves.stage_starts.append((record["stage"], before))
        latest = before + record["minutes"]
        if "eval" in record:
            _add(curves.held_out, {"all": record["eval"]["all"], **_splits(record["eval"])}, latest)
        else:
            _add(curves.learning, {name: record[name] for name in _LEARNING if name in record}, latest)
    return curves


def _splits(found: dict[str, Any]) -> dict[str, float]:
    return {name: split["accuracy"] for name, split in found["splits"].items()}


def _add(lines: dict[str, Points], figures: dict[str, float], minute: float) -> None:
    for name, value in figures.items():
        lines.setdefault(name, []).append((minute, value))


def table(curves: Curves) -> str:
    """Every evaluation, one line each, with the pointer's figures of that time beside it."""
    pointer = curves.learning.get("pointer_hit", [])
    rows = ["minute  all    " + "  ".join(f"{name:<10}" for name in curves.held_out if name != "all") + "  pointer_hit"]
    for i, (minute, share) in enumerate(curves.held_out.get("all", [])):
        splits = "  ".join(f"{points[i][1]:<10.3f}" for name, points in curves.held_out.items() if name != "all")
        near = [value for at, value in pointer if at <= minute][-1:]
        rows.append(f"{minute:6.1f}  {share:.3f}  {splits}  {near[0] if near else float('nan'):.3f}")
    return "\n".join(rows)


def svg(curves: Curves) -> str:
    """Both panels as one picture."""
    last = max((minute for line in curves.learning.values() for minute, _ in line), default=1.0)
    stages = [*curves.stage_starts, ("", last)]
    smooth = {_CALLED.get(name, name): _smoothed(line, stages, last) for name, line in curves.learning.items()}
    whole = {name: [line] for name, line in curves.held_out.items()}
    panels = [
        _panel("right on training batches", smooth, stages, _TOP),
        _panel("hits on held-out scenes", whole, stages, _TOP + _HEIGHT + _GAP, dots=True),
    ]
    width, height = _LEFT + _WIDTH + _RIGHT, 2 * (_HEIGHT + _GAP)
    font = 'font-family="sans-serif" font-size="11"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {font}>'
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *panels, "</svg>\n"])


def _smoothed(line: Points, stages: Sequence[tuple[str, float]], last: float) -> list[Points]:
    """One line per stage that measured the figure, as means over a few pixels' time."""
    pieces = []
    for (_, start), (_, stop) in itertools.pairwise(stages):
        bins: dict[int, Points] = {}
        for minute, share in line:
            if start < minute <= stop:
                bins.setdefault(int((minute - start) / last * _WIDTH / _BIN_PX), []).append((minute, share))
        pieces.append([(_mean(m for m, _ in some), _mean(v for _, v in some)) for some in bins.values()])
    return [piece for piece in pieces if piece]


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)


def _panel(
    title: str, lines: dict[str, list[Points]], stages: Sequence[tuple[str, float]], top: float, *, dots: bool = False
) -> str:
    last = stages[-1][1]

    def at(minute: float, share: float) -> str:
        return f"{_LEFT + _WIDTH * minute / last:.1f},{top + _HEIGHT * (1 - share):.1f}"

    parts = [f'<text x="{_LEFT}" y="{top - 8}" font-weight="bold">{title}, over minutes of training</text>']
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<polyline points="{at(0, share)} {at(last, share)}" stroke="#ddd" fill="none"/>')
        parts.append(f'<text x="8" y="{top + _HEIGHT * (1 - share) + 4:.0f}">{share:.2f}</text>')
    for name, minute in stages:
        x = _LEFT + _WIDTH * minute / last
        parts.append(f'<polyline points="{at(minute, 0)} {at(minute, 1)}" stroke="#bbb" fill="none"/>')
        parts.append(f'<text x="{x + 4:.0f}" y="{top + 12}" fill="#888" font-size="10">{name}</text>')
        parts.append(f'<text x="{x:.0f}" y="{top + _HEIGHT + 14}" text-anchor="middle">{minute:.0f}</text>')
    for i, (name, pieces) in enumerate(lines.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        for points in pieces:
            places = [at(*point) for point in points]
            parts.append(f'<polyline points="{" ".join(places)}" stroke="{colour}" stroke-width="1.5" fill="none"/>')
            parts += [_dot(place, colour) for place in places if dots]
        latest = f"{name} {pieces[-1][-1][1]:.2f}" if pieces else name
        parts.append(f'<text x="{_LEFT + _WIDTH + 14}" y="{top + 14 + 16 * i}" fill="{colour}">{latest}</text>')
    return "\n".join(parts)


def _dot(place: str, colour: str) -> str:
    x, y = place.split(",")
    return f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>'


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description="Learning curves of a training run.")
    parser.add_argument("work", type=Path, help="the run's folder")
    parser.add_argument("out", type=Path, nargs="?", help="SVG to write")
    options = parser.parse_args(arguments)
    curves = read_curves(options.work / "log.jsonl")
    sys.stdout.write(table(curves) + "\n")
    if options.out is not None:
        with storage_errors(options.out):
            options.out.write_text(svg(curves), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
