"""The chapters of a page: words, figures, tables and pictures, in this order.

This module holds their form, and the chapters about accuracy; those about speed are in `chapters_speed.py`.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.compare_report import verdict_words
from bench.report.figures import Interval, Line, dots, lines
from bench.report.found import Found, Source
from bench.report.results import Asked, accuracies
from bench.report.tables import Table
from bench.report.wording import (
    NOT_KNOWN,
    number,
    percent,
    percent_span,
    points_span,
    settings_words,
    unique,
)
from edge_runtime.errors import DataError

Json = Mapping[str, Any]
MOST_PICTURES = 12
LONGEST_PROMPT = 160


@dataclass(frozen=True)
class Figure:
    """A drawing with what it shows."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Picture:
    """A photograph with what it shows."""

    address: str  # a data address: the page fetches nothing
    caption: str


@dataclass(frozen=True)
class Chapter:
    """One part of the page."""

    id: str
    title: str
    words: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()


def accuracy_chapter(found: Found) -> Chapter | None:
    """How often points are right; None if nobody was asked."""
    asked = accuracies(found)
    if not asked:
        return None
    rows: dict[str, dict[str, Interval]] = {}
    for one in asked:
        with one.source.reading():
            rows[one.label] = {
                name: Interval(100 * split["accuracy"], *(100 * end for end in split["interval"] or ()))
                for name, split in one.figures["splits"].items()
            }
    figure = Figure(
        dots("accuracy", rows, x_label="points inside the mask, %"),
        "Accuracy with 95 % intervals. Intervals that overlap do not mean that two subjects are the same: they were "
        "asked the same questions, so compare them question by question.",
    )
    return Chapter(
        "accuracy",
        "Accuracy",
        words=(
            "Mean share of an answer's points inside the mask. The strict scorer counts an answer that cannot be read "
            "as wrong; upstream's rules leave some of those out.",
        ),
        figures=(figure,),
        tables=(_accuracy_table(asked), *_breakdowns(asked)),
    )


def comparison_chapter(found: Found) -> Chapter | None:
    """Same, better or worse; None if nothing was compared."""
    sources = found.of("bench_compare")
    if not sources:
        return None
    rows: dict[str, dict[str, Interval]] = {}
    words: list[str] = []
    tables: list[Table] = []
    for source, title in zip(sources, _comparison_titles(sources), strict=True):
        with source.reading() as data:
            words.append(f"{title}: {verdict_words(data)}.")
            tables += _comparison_tables(data, title)
            rows[title] = {
                name: Interval(*(100 * part["difference"][end] for end in ("value", "low", "high")))
                for name, part in {**data["splits"], "all": data}.items()
            }
    if len(rows) == 1:  # then a row for each split reads better
        rows = {split: {"": found_part} for split, found_part in next(iter(rows.values())).items()}
    figure = Figure(
        dots("comparison", rows, x_label="subject minus reference, points", same_at=0.0),
        "Difference of the mean score with its 95 % interval, from the same questions (bootstrap over pictures).",
    )
    return Chapter("comparison", "Against the reference", tuple(words), (figure,), tuple(tables))


def flips_chapter(found: Found, most: int = MOST_PICTURES) -> Chapter | None:
    """Questions that only one side got right, with pictures; None if nothing was compared."""
    sources = found.of("bench_compare")
    if not sources:
        return None
    words, tables, pictures = [], [], []
    for source, title in zip(sources, _comparison_titles(sources), strict=True):
        with source.reading() as data:
            flips = data["flips"]
            lost = sum(flip["change"] == "lost" for flip in flips)
            words.append(f"{title}: {lost} lost, {len(flips) - lost} gained of {data['n']}.")
            pictures += [picture for flip in flips[:most] if (picture := _flip_picture(source, flip, title))]
            if flips:
                tables.append(_flip_table(flips, title))
    if pictures:
        words.append(
            "In the pictures the mask is outlined in white; the reference's point is a wide blue ring, the subject's "
            "an orange ring with a cross."
        )
    elif tables:
        words.append("Pictures of these questions come with `bench compare --out FOLDER`.")
    return Chapter("flips", "Flipped questions", tuple(words), (), tuple(tables), tuple(pictures))


def confidence_chapter(found: Found) -> Chapter | None:
    """What a threshold on the confidence buys; None if no compared answer has one."""
    told = list(_confidences(found))
    if not told:
        return None
    curves = [
        Line(
            name,
            [0.0, *(100 * p["coverage"] for p in one["curve"])],
            [_risk(one["curve"][0]), *map(_risk, one["curve"])],
        )
        for name, one in told
    ]
    figure = Figure(
        lines("risk", curves, x_label="coverage: acted on, %", y_label="risk: wrong among those, %", steps=True),
        "Risk against coverage: a robot that acts only on the surest answers is wrong less often. The band reaches to "
        "the upper end of the one-sided 95 % interval.",
    )
    return Chapter(
        "confidence",
        "Confidence",
        words=tuple(_auroc_words(name, one) for name, one in told),
        figures=(figure,),
        tables=(_threshold_table(told),),
    )


# --- accuracy -------------------------------------------------------------------------------------------


def _accuracy_table(asked: list[Asked]) -> Table:
    head = ("subject", "split", "questions", "strict, %", "upstream, %", "unreadable")
    rows = []
    for one in asked:
        with one.source.reading():
            for name, split in one.figures["splits"].items():
                rows.append(
                    (
                        one.label,
                        name,
                        str(split["n"]),
                        percent_span(split["accuracy"], split["interval"]),
                        percent(split["accuracy_upstream"]),
                        str(split["parse_failures"]),
                    )
                )
            if absent := one.figures.get("absent"):
                words = percent_span(absent["accuracy"], absent["interval"])
                rows.append((one.label, "absent objects", str(absent["n"]), words, NOT_KNOWN, NOT_KNOWN))
    return Table(head, tuple(rows), "Split by split, with upstream's scorer", text_columns=2, folded=True)


def _breakdowns(asked: list[Asked]) -> Iterator[Table]:
    """By step, by kind and by whatever else was asked for: one table for each subject."""
    for one in asked:
        if not one.main:
            continue
        with one.source.reading():
            rows = [
                (name, what, value, str(group["n"]), percent_span(group["accuracy"], group["interval"]))
                for name, split in one.figures["splits"].items()
                for what, groups in (("steps", split["by_step"]), ("kind", split["by_kind"]))
                for value, group in groups.items()
            ] + [
                ("all", field, value, str(group["n"]), percent_span(group["accuracy"], group["interval"]))
                for field, groups in one.figures["by"].items()
                for value, group in groups.items()
            ]
            if rows:
                caption = f"{one.label}: by step and kind"
                head = ("split", "by", "value", "questions", "strict, %")
                yield Table(head, tuple(rows), caption, text_columns=3, folded=True)


# --- comparison -----------------------------------------------------------------------------------------


def _comparison_titles(sources: tuple[Source, ...]) -> list[str]:
    titles = []
    for source in sources:
        with source.reading() as data:
            reference, subject = (_side_name(data["subjects"][side]) for side in ("reference", "subject"))
            titles.append(f"{subject} against {reference}")
    return unique(titles, [source.name for source in sources])


def _side_name(side: Json) -> str:
    return str(side["about"].get("name") or side["model_id"] or side["answers"])


def _comparison_tables(data: Json, title: str) -> Iterator[Table]:
    rows = tuple(
        (name, str(p["n"]), percent(p["reference"]), percent(p["subject"]), points_span(p["difference"]))
        for name, p in {**data["splits"], "all": data}.items()
    )
    yield Table(("", "questions", "reference, %", "subject, %", "difference, points"), rows, title)
    test, shift = data["mcnemar"], data["shift_px"]
    told = (
        ("right: both / reference only / subject only / neither", _counts(test)),
        ("McNemar exact p", f"{test['p']:.3g}"),
        ("both in the mask or both out of it, %", percent(data["same_mask"])),
        ("same object, %", percent(data["same_object"]["share"])),
        ("word for word the same, %", percent(data["identical_answers"])),
        ("points moved, px: median / 95th percentile", f"{number(shift['median'], 1)} / {number(shift['p95'], 1)}"),
        (
            "unreadable answers: reference / subject",
            " / ".join(str(data["subjects"][side]["parse_failures"]) for side in ("reference", "subject")),
        ),
    )
    yield Table(("", ""), told, f"{title}: details")
    settings = tuple(
        (side, settings_words(about.get("settings", {})))
        for side in ("reference", "subject")
        if (about := data["subjects"][side]["about"])
    )
    if settings:
        yield Table(("side", "asked with"), settings, f"{title}: settings", text_columns=2, folded=True)


def _counts(test: Json) -> str:
    return " / ".join(str(test[side]) for side in ("both", "reference_only", "subject_only", "neither"))


# --- flips ----------------------------------------------------------------------------------------------


def _flip_picture(source: Source, flip: Json, title: str) -> Picture | None:
    """The picture that `bench compare --out` drew, with words for those who cannot see it."""
    if flip["picture"] is None:
        return None
    path = source.path.parent / flip["picture"]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{source.path} names the picture {path}, which cannot be read: {error.strerror}") from error
    words = f"{flip['change']}: {_cut(flip['prompt'])} ({title}, {flip['split']}/{flip['question_id']})"
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", words)


def _flip_table(flips: list[Json], title: str) -> Table:
    head = ("", "question", "asked", "reference", "subject", "moved, px")
    rows = tuple(
        (
            flip["change"],
            f"{flip['split']}/{flip['question_id']}",
            _cut(flip["prompt"]),
            _cut(flip["reference"]["text"]),
            _cut(flip["subject"]["text"]),
            number(flip["shift_px"], 1),
        )
        for flip in flips
    )
    return Table(head, rows, f"{title}: every flipped question", text_columns=5, folded=True)


def _cut(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= LONGEST_PROMPT else f"{words[: LONGEST_PROMPT - 1]}…"


# --- confidence -----------------------------------------------------------------------------------------


def _confidences(found: Found) -> Iterator[tuple[str, Json]]:
    """Every side of every comparison that has confidences; one that was compared twice, once."""
    seen: list[Json] = []
    for source in found.of("bench_compare"):
        with source.reading() as data:
            for side in ("reference", "subject"):
                one = data["confidence"][side]
                if one is not None and one["curve"] and one not in seen:
                    seen.append(one)
                    yield _side_name(data["subjects"][side]), one


def _risk(point: Json) -> Interval:
    return Interval(100 * point["risk"], 100 * point["risk"], 100 * point["risk_high"])


def _auroc_words(name: str, one: Json) -> str:
    area = one["auroc"]
    if area is None:
        return f"{name}: hits and misses are not both there, so nothing can be said of its confidence."
    told = f"{name}: a hit is surer than a miss with a chance of {area['value']:.3f} "
    told += f"({area['low']:.3f} to {area['high']:.3f}; 0.5 is guessing)"
    if (absent := one["absent_auroc"]) is not None:
        told += f", and surer than pointing at what is not there with {absent['value']:.3f}"
    return f"{told}."


def _threshold_table(told: list[tuple[str, Json]]) -> Table:
    head = ("side", "wrong at most, %", "act from confidence", "acts on, %", "safe threshold", "acts on, %")
    rows = []
    for name, one in told:
        for wished in one["thresholds"]:
            measured, safe = wished["measured"], wished["safe"]
            rows.append((name, percent(wished["wished_risk"]), *_threshold_cells(measured), *_threshold_cells(safe)))
    return Table(head, tuple(rows), "Thresholds; safe: even the upper end of the interval keeps the risk")


def _threshold_cells(point: Json | None) -> tuple[str, str]:
    return (NOT_KNOWN, NOT_KNOWN) if point is None else (f"{point['threshold']:.3f}", percent(point["coverage"]))
