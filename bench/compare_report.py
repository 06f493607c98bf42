"""`bench compare`: reads two files of answers, compares them, and writes what came of it for a person and as JSON.

OUT holds `compare.json`, the object that `--json` prints, and in `flips/` a picture for each flipped question.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.accuracy import write_report
from bench.answers import read_about, read_answers
from bench.compare import BAND, Comparison, compare
from bench.datasets import Dataset, open_dataset
from bench.flip_pictures import draw_flips
from bench.pairing import AnswerSet
from bench.samples import SampleKey
from bench.scorers import AnswerStyle
from edge_runtime.errors import ConfigError
from hardware.storage import replace_folder, storage_errors

REPORT = "compare.json"
PICTURES = "flips"
MAX_PICTURES = 200

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompareRequest:
    """Which answers, to which questions, and where results go."""

    reference: Path
    subject: Path
    data: Path
    splits: tuple[str, ...] = ()
    subject_style: AnswerStyle = "tuples"
    band: float = BAND
    seed: int = 0  # of the bootstrap
    out: Path | None = None


def run_comparison(request: CompareRequest) -> dict[str, Any]:
    """Compare, draw and write; the object of docs/schema/bench_compare.json.

    Raises:
        ConfigError: A file does not say which split its answers are of, or OUT is no place for the results.
        DataError: The dataset or a file of answers is wrong, or they do not belong together.
        StorageError: Disk full or not writable.
    """
    if request.out is not None:
        _check_out(request.out)
    dataset = open_dataset(request.data, splits=request.splits)
    found = compare(
        answer_set(request.reference, dataset, chosen=request.splits),
        answer_set(request.subject, dataset, request.subject_style, chosen=request.splits),
        dataset.samples,
        band=request.band,
        seed=request.seed,
    )
    if any(found.unpaired):
        _log.warning(
            "%d questions are answered in one file only and left out: compared are the %d that both have",
            sum(found.unpaired),
            len(found.pairs) + len(found.absent),
        )
    if request.out is None:
        return found.to_json()
    report = found.to_json(_write_pictures(found, request.out / PICTURES))
    write_report(request.out / REPORT, report)
    return report


def answer_set(path: Path, dataset: Dataset, style: AnswerStyle = "tuples", *, chosen: Sequence[str] = ()) -> AnswerSet:
    """The answers in a file.

    Args:
        path: Ours, or upstream's where there is only one split.
        dataset: The questions.
        style: How the answers write points.
        chosen: Splits to keep; default: all.

    Raises:
        ConfigError: The file does not say which split its answers are of.
        DataError: It is damaged.
    """
    only = next(iter(dataset.splits)) if len(dataset.splits) == 1 else ""
    answers = read_answers(path, split=only)
    about = read_about(path)
    if about is not None and about.dataset.get("hash") != dataset.hash:
        _log.warning("%s was answered on other files than %s: same questions, other bytes", path, dataset.path)
    kept = {key: line for key, line in answers.items() if key[0] in dataset.splits} if chosen else answers
    return AnswerSet(name=str(path), answers=kept, style=style, about=about.subject if about else {})


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """A comparison as a person reads it; shares in per cent, differences in points."""
    shift, test = report["shift_px"], report["mcnemar"]
    lines = [
        verdict_words(report),
        f"{'':<14}{'n':>6}{'reference %':>13}{'subject %':>11}{'difference':>12}{'95 % interval':>18}",
        *(_row(name, part) for name, part in report["splits"].items()),
        _row("all", report),
        f"right: both {test['both']}, reference only {test['reference_only']}, subject only {test['subject_only']}, "
        f"neither {test['neither']}; McNemar exact p = {test['p']:.3g}",
        f"both in the mask or both out of it: {_percent(report['same_mask'])} %; word for word the same: "
        f"{_percent(report['identical_answers'])} %",
    ]
    if report["same_object"]["n"]:
        lines.append(f"same object: {_percent(report['same_object']['share'])} % of {report['same_object']['n']}")
    if shift["n"]:
        lines.append(f"points moved by {shift['median']:.1f} px (median), {shift['p95']:.1f} px (95th percentile)")
    for name, confidence in report["confidence"].items():
        lines += _confidence_lines(name, confidence)
    lines += [_flip_line(flip) for flip in report["flips"][:10]]
    if len(report["flips"]) > 10:
        lines.append(f"... and {len(report['flips']) - 10} more flipped questions")
    return lines


# --- pictures ---------------------------------------------------------------------------------------------


def _write_pictures(found: Comparison, folder: Path) -> dict[SampleKey, str]:
    """One picture for each flipped question, the lost ones first; an older folder is replaced as a whole."""
    drawn = found.flips[:MAX_PICTURES]
    if len(found.flips) > len(drawn):
        _log.warning("%d of %d flipped questions get a picture", len(drawn), len(found.flips))
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
        try:
            names = {pair.sample.key: f"{folder.name}/{name}" for pair, name in draw_flips(drawn, staging)}
            staging.chmod(0o755)  # mkdtemp made it private
            replace_folder(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return names


def _check_out(out: Path) -> None:
    """Refuse to replace what is not ours."""
    pictures = out / PICTURES
    foreign = sorted(p.name for p in pictures.iterdir() if p.suffix != ".jpg") if pictures.is_dir() else []
    if foreign or (out.exists() and not out.is_dir()):
        what = f"{pictures} holds {foreign[:3]}, which would be lost" if foreign else f"{out} is a file"
        raise ConfigError(f"{what}: choose another folder with --out")


# --- words ------------------------------------------------------------------------------------------------


def verdict_words(report: Mapping[str, Any]) -> str:
    """The verdict and the rule that gave it."""
    band, width = 100 * report["band"], 100 * (report["difference"]["high"] - report["difference"]["low"])
    if report["verdict"] != "same":
        side = "below -" if report["verdict"] == "worse" else "above +"
        return f"{report['verdict']}: the whole interval of the difference lies {side}{band:g} points"
    if report["identical_answers"] == 1.0:
        return f"same: all {report['n']} answers are the same word for word"
    if report["conclusive"] and width == 0:
        return f"same: not one of {report['n']} questions is scored differently"
    if report["conclusive"]:
        return f"same: the whole interval of the difference lies within {band:g} points"
    if width == 0:
        return f"same, as far as {report['n']} questions can tell: too few to exclude a difference of {band:g} points"
    return f"same, as far as can be told: the interval is {width:.1f} points wide, the band {band:g} to either side"


def _row(name: str, part: Mapping[str, Any]) -> str:
    difference = part["difference"]
    span = f"{100 * difference['low']:+.1f} to {100 * difference['high']:+.1f}"
    return (
        f"{name:<14}{part['n']:>6}{_percent(part['reference']):>13}{_percent(part['subject']):>11}"
        f"{100 * difference['value']:>+12.1f}{span:>18}"
    )


def _confidence_lines(name: str, confidence: Mapping[str, Any] | None) -> Iterator[str]:
    if confidence is None:
        return
    if (area := confidence["auroc"]) is not None:
        yield (
            f"{name}: confidence tells hits from misses with AUROC {area['value']:.3f} "
            f"({area['low']:.3f} to {area['high']:.3f})"
        )
    for wished in confidence["thresholds"]:
        if (point := wished["measured"]) is not None:
            yield (
                f"{name}: wrong in at most {_percent(wished['wished_risk'])} % of what it acts on: act from confidence "
                f"{point['threshold']:.3f}, on {_percent(point['coverage'])} % of the questions"
            )


def _flip_line(flip: Mapping[str, Any]) -> str:
    where = f"{flip['split']}/{flip['question_id']}"
    said: Sequence[str] = [" ".join(flip[side]["text"].split())[:40] for side in ("reference", "subject")]
    return f"{flip['change']:<7}{where:<24}{said[0]} -> {said[1]}   {flip['prompt'][:60]}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
