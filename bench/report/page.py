"""The page: every chapter there is something for, and a line for each that is missing.

It is one file: styles, figures and pictures are inside, nothing is fetched, no script runs. The template says so to
the browser as well.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report.acceptance import acceptance_chapter
from bench.report.chapters import (
    MOST_PICTURES,
    Chapter,
    accuracy_chapter,
    comparison_chapter,
    confidence_chapter,
    flips_chapter,
)
from bench.report.chapters_speed import (
    latency_chapter,
    machine_chapter,
    memory_chapter,
    peers_chapter,
    roofline_chapter,
    tiles_chapter,
)
from bench.report.found import COMMANDS, Found
from bench.report.results import footnotes, result_rows, results_table
from bench.report.tables import Table
from bench.report.wording import ms, number, percent, points_span

TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Card:
    """One number at the top."""

    label: str
    value: str
    note: str
    tone: str = ""  # "yes" or "no": how it is marked


@dataclass(frozen=True)
class LeftOut:
    """A chapter that nothing was found for."""

    title: str
    command: str  # which makes it


def page(found: Found, *, title: str | None = None, most_pictures: int = MOST_PICTURES) -> str:
    """The report as HTML.

    Args:
        found: What it is made from.
        title: Its heading; default: who was measured.
        most_pictures: Of flipped questions, from each comparison.

    Raises:
        DataError: A file is not what its verb writes.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    chapters, left_out = _chapters(found, most_pictures)
    return environment.get_template(TEMPLATE).render(
        title=title or _title(found), cards=list(_cards(found)), chapters=chapters, left_out=left_out,
        sources=_sources(found),
    )  # fmt: skip


def markdown(found: Found) -> str:
    """The results as one Markdown table with what a reader has to know below it.

    Raises:
        DataError: A file is not what its verb writes.
    """
    notes = list(footnotes(found))
    return results_table(found).markdown() + ("\n" + "\n".join(notes) + "\n" if notes else "")


def _chapters(found: Found, most_pictures: int) -> tuple[list[Chapter], list[LeftOut]]:
    """What there is something for, and what is missing with the command that makes it."""
    planned: list[tuple[str, str, Callable[[Found], Chapter | None]]] = [
        ("", "", acceptance_chapter),  # not missed where it is missing
        ("Results", "bench_accuracy", _results_chapter),
        ("Accuracy", "bench_accuracy", accuracy_chapter),
        ("Against the reference", "bench_compare", comparison_chapter),
        ("Flipped questions", "bench_compare", lambda found: flips_chapter(found, most_pictures)),
        ("Confidence", "bench_compare", confidence_chapter),
        ("Latency", "latency", latency_chapter),
        ("Accuracy against latency", "bench_sweep", tiles_chapter),
        ("Peers", "bench_peers", peers_chapter),
        ("Roofline", "roofline", roofline_chapter),
        ("Memory", "latency", memory_chapter),
        ("Machine", "latency", machine_chapter),
    ]
    made: list[Chapter] = []
    left_out: list[LeftOut] = []
    for title, kind, make in planned:
        chapter = make(found)
        if chapter is not None:
            made.append(chapter)
        elif title:
            left_out.append(LeftOut(title, COMMANDS[kind]))
    return made, left_out


def _results_chapter(found: Found) -> Chapter | None:
    table = results_table(found)
    return Chapter("results", "Results", tuple(footnotes(found)), (), (table,)) if table.rows else None


def _title(found: Found) -> str:
    rows = result_rows(found)
    first = next((row for row in rows if row.asked and row.asked.is_bundle), rows[0] if rows else None)
    return f"RoboRefer Edge: {first.label if first else found.folder.resolve().name}"


def _cards(found: Found) -> Iterator[Card]:
    """What one looks for first, about the first bundle."""
    for source in found.of("bench_accept"):
        with source.reading() as data:
            yes = data["accepted"]
            yield Card("accepted", "yes" if yes else "no", data["reason"], "yes" if yes else "no")
    rows = result_rows(found)
    first = next((row for row in rows if row.asked and row.asked.is_bundle), None)
    if first is not None and first.asked is not None:
        splits: Mapping[str, Any] = first.asked.figures["splits"]
        told = ", ".join(f"{name} {percent(split['accuracy'])}" for name, split in splits.items())
        yield Card(
            "accuracy, mean of the splits", f"{percent(first.asked.figures['mean'])} %", f"{first.label}: {told}"
        )
    for source in found.of("bench_compare")[:1]:
        with source.reading() as data:
            tone = "no" if data["verdict"] == "worse" else "yes" if data["conclusive"] else ""
            doubt = "" if data["conclusive"] else ", as far as can be told"
            value = f"{data['verdict']}{doubt}"
            yield Card("against the reference", value, f"{points_span(data['difference'])} points", tone)
    measured = next((row.latency for row in rows if row.latency is not None), None)
    if measured is not None:
        total, held = measured["stages_ms"]["total"], measured["peak_held_mib"]
        yield Card("answer, median", f"{ms(total['p50'])} ms", f"95th percentile {ms(total['p95'])} ms")
        yield Card("memory held", f"{number(held)} MiB", f"with mapped files {number(measured['peak_rss_mib'])} MiB")


def _sources(found: Found) -> Table:
    rows = tuple((source.name, source.kind, source.sha256[:16]) for source in found.sources)
    return Table(("file", "kind", "sha256"), rows, text_columns=3)
