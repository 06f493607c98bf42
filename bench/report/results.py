"""One row for each subject: how accurate, against what, how fast, how large. The page and README show the same rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.report.found import Found, Source
from bench.report.tables import Table
from bench.report.wording import NOT_KNOWN, mib, ms, number, percent, percent_span, points_span, unique

Json = Mapping[str, Any]

MODALITIES = {"rgbd": "RGB-D", "rgb": "RGB only"}
_ORDER = ("bundle", "server", "answers", "reference", "baseline")  # kinds of subject, as they are listed
_NANO_SIDES = {"bundle": "shipped bundle", "reference": "full precision"}


@dataclass(frozen=True)
class Asked:
    """The accuracy of one subject, wherever it was written down."""

    label: str
    figures: Json  # splits, mean, auroc, subject, dataset of docs/schema/bench_accuracy.json
    source: Source
    main: bool = True  # False: a baseline, or a question beside the main one

    @property
    def subject(self) -> Json:
        """Who answered."""
        found: Json = self.figures["subject"]
        return found

    @property
    def is_bundle(self) -> bool:
        """Whether a bundle was asked as the robot asks it."""
        return bool(self.subject["kind"] == "bundle")


@dataclass(frozen=True)
class Row:
    """What is known of one subject."""

    label: str
    asked: Asked | None = None
    against: str = NOT_KNOWN  # the reference: difference and verdict
    latency: Json | None = None


def accuracies(found: Found) -> list[Asked]:
    """Every accuracy in the files, labels unique.

    Raises:
        DataError: A file lacks something.
    """
    told: list[Asked] = []
    for source in found.of("nano_report"):
        with source.reading():
            told += _of_nano(source)
    for source in found.of("bench_accuracy"):
        with source.reading() as data:
            told.append(Asked(_label(data["subject"]), data, source, main=data["subject"]["kind"] != "baseline"))
    told.sort(key=lambda one: _ORDER.index(one.subject["kind"]) if one.subject["kind"] in _ORDER else len(_ORDER))
    labels = unique([one.label for one in told], [one.source.name for one in told])
    return [replace(one, label=label) for one, label in zip(told, labels, strict=True)]


def result_rows(found: Found) -> list[Row]:
    """A row for each subject that was asked, then for each bundle of which the speed alone is known.

    Raises:
        DataError: A file lacks something.
    """
    latencies = _latencies(found)
    rows = []
    for one in accuracies(found):
        asked_as = (str(one.subject["name"]), str(one.subject["modality"]))
        rows.append(Row(one.label, one, _against(one, found), latencies.get(asked_as) if one.is_bundle else None))
    shown = [row.latency for row in rows]
    return rows + [
        Row(f"{name}, {MODALITIES[modality]}", latency=latency)
        for (name, modality), latency in latencies.items()
        if latency not in shown
    ]


def results_table(found: Found) -> Table:
    """The rows as a table; columns that nothing is known for are left out.

    Raises:
        DataError: A file lacks something.
    """
    rows = result_rows(found)
    splits = list(dict.fromkeys(name for row in rows if row.asked for name in row.asked.figures["splits"]))
    head = (
        "", *(f"{name}, %" for name in splits), "mean, %", "against the reference, points", "answer, ms p50 / p95",
        "first token, ms", "memory, MiB", "on disk, MiB",
    )  # fmt: skip
    return Table(head, tuple(_cells(row, splits) for row in rows)).without_empty_columns(NOT_KNOWN)


def footnotes(found: Found) -> Iterator[str]:
    """What a reader of the table has to know: how many questions, which machine."""
    asked = accuracies(found)
    for dataset in dict.fromkeys(one.figures["dataset"]["name"] for one in asked):
        counts = next(one.figures["splits"] for one in asked if one.figures["dataset"]["name"] == dataset)
        told = ", ".join(f"{name} {split['n']}" for name, split in counts.items())
        yield (
            f"Accuracy on {dataset} ({told} questions): mean share of an answer's points inside the mask, strict "
            "scorer, with 95 % intervals."
        )
    machines = {_machine(source.data["machine"]): None for source in found.of("latency")}
    for machine in machines:
        yield f"Times and memory measured on {machine}."


# --- accuracy -------------------------------------------------------------------------------------------


def _label(subject: Json) -> str:
    """Name and modality; a reference says that it is one."""
    words = [str(subject["name"])]
    if subject["kind"] == "reference":
        words.append(f"reference {subject['settings'].get('precision', '')}".strip())
    if subject["kind"] == "baseline":
        return f"baseline: {subject['name']}"
    if subject["modality"] in MODALITIES:
        words.append(MODALITIES[subject["modality"]])
    return ", ".join(words)


def _of_nano(source: Source) -> Iterator[Asked]:
    """The parts of the report that ships with nano (bench/nano_report.py)."""
    data = source.data
    for side, what in _NANO_SIDES.items():
        for modality, seen in MODALITIES.items():
            figures = data[side][modality]
            yield Asked(f"{figures['subject']['name']}, {what}, {seen}", figures, source)
    noisy = data["noisy_depth"]
    yield Asked(f"{noisy['subject']['name']}, shipped bundle, sensor-noisy depth", noisy, source, main=False)
    for name, figures in data["baselines"].items():
        yield Asked(f"baseline: {name}", figures, source, main=False)


def _against(one: Asked, found: Found) -> str:
    """Difference to the reference and the verdict, from a comparison whose subject this is."""
    for source in found.of("bench_compare"):
        with source.reading() as data:
            about = data["subjects"]["subject"]["about"]
            if about and all(about.get(key) == one.subject.get(key) for key in ("kind", "name", "modality")):
                return _difference(data["difference"], data)
    if one.source.kind == "nano_report" and one.figures is one.source.data["bundle"]["rgbd"]:
        quantized = one.source.data["quantized"]
        return _difference(quantized, quantized)
    return NOT_KNOWN


def _difference(difference: Json, compared: Json) -> str:
    doubt = "" if compared["conclusive"] else " (as far as can be told)"
    return f"{points_span(difference)}, {compared['verdict']}{doubt}"


# --- speed ----------------------------------------------------------------------------------------------


def _latencies(found: Found) -> dict[tuple[str, str], Json]:
    """By bundle and modality; where one was measured in several scenarios, with single questions."""
    chosen: dict[tuple[str, str], Json] = {}
    for source in found.of("latency"):
        with source.reading() as data:
            seen = "rgbd" if data["stages_ms"]["depth_encoder"]["p50"] > 0 else "rgb"
            key = (str(data["bundle"]["name"]), seen)
            if key not in chosen or (data["workload"]["scenario"] == "single" != _scenario(chosen[key])):
                chosen[key] = data
    return chosen


def _scenario(latency: Json) -> str:
    return str(latency["workload"]["scenario"])


def _machine(card: Json) -> str:
    mode = card["power_mode"]
    named = f", power mode {mode['name'] or mode['id']}" if mode else ""
    return f"{card['model']}, {card['cores']} cores{named}"


# --- cells ----------------------------------------------------------------------------------------------


def _cells(row: Row, splits: Sequence[str]) -> tuple[str, ...]:
    return (row.label, *_accuracy_cells(row.asked, splits), row.against, *_speed_cells(row.latency))


def _accuracy_cells(asked: Asked | None, splits: Sequence[str]) -> Iterator[str]:
    if asked is None:
        yield from [NOT_KNOWN] * (len(splits) + 1)
        return
    for name in splits:
        split = asked.figures["splits"].get(name)
        yield NOT_KNOWN if split is None else percent_span(split["accuracy"], split["interval"])
    yield percent(asked.figures["mean"])


def _speed_cells(latency: Json | None) -> tuple[str, str, str, str]:
    if latency is None:
        return NOT_KNOWN, NOT_KNOWN, NOT_KNOWN, NOT_KNOWN
    total = latency["stages_ms"]["total"]
    held = latency["peak_held_mib"]
    return (
        f"{ms(total['p50'])} / {ms(total['p95'])}",
        ms(latency["ttft_ms"]["p50"]),
        number(held if held is not None else latency["peak_rss_mib"]),
        mib(latency["bundle"]["bytes"]),
    )
