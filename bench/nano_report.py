"""One report of the nano that ships, from what `bench accuracy` and `bench compare` found.

    python -m bench.nano_report FOUND models/nano/report.json --card models/nano/README.md

FOUND holds a folder for each thing that was asked (`models/nano/ship.sh` makes them):

    bundle-rgbd/ bundle-rgb/         report.json of `bench accuracy`: the bundle that ships, on the sim bench
    reference-rgbd/ reference-rgb/   likewise, the full-precision bundle
    noisy-rgbd/ depth-rgbd/ depth-rgb/ centre/ blank/ random-object/
    compare-quantized.json compare-depth.json        of `bench compare --json`

The report is the shipped bundle's with depth, and a section for everything else. Nothing is asked here.
"""

import argparse
import json
import operator
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edge_runtime.errors import DataError, EdgeError
from edge_runtime.terminal import say
from hardware.storage import whole_file

Json = Mapping[str, Any]

SUBJECTS, MODALITIES = ("reference", "bundle"), ("rgbd", "rgb")
BASELINES = ("centre", "blank", "random-object")
SPLITS = ("Location", "Placement", "Unseen")
CARD_BLOCK = re.compile(r"(<!-- figures:[^\n]*-->\n).*?(<!-- /figures -->)", re.DOTALL)


@dataclass(frozen=True)
class Bar:
    """Something that was to be reached, as a share, and what it came to."""

    name: str
    value: float | None
    limit: float
    rule: Literal["at least", "at most", "above"] = "at least"

    @property
    def met(self) -> bool:
        """Whether it was reached."""
        if self.value is None:
            return False
        holds = {"at least": operator.ge, "at most": operator.le, "above": operator.gt}[self.rule]
        return bool(holds(self.value, self.limit))

    def to_json(self) -> dict[str, Any]:
        """As the report holds it."""
        return {**asdict(self), "met": self.met}


def nano_report(found: Path) -> dict[str, Any]:
    """The report of everything in a folder.

    Raises:
        DataError: Something is missing there, cannot be read, or was asked on other questions than the rest.
    """
    asked = {f"{s}-{m}": _read(found / f"{s}-{m}" / "report.json") for s in SUBJECTS for m in MODALITIES}
    _check_same_questions(asked)
    depth = {m: _figures(_read(found / f"depth-{m}" / "report.json")) for m in MODALITIES}
    report = {
        **asked["bundle-rgbd"],
        "kind": "nano_report",
        **{s: {m: _figures(asked[f"{s}-{m}"]) for m in MODALITIES} for s in SUBJECTS},
        "quantized": _difference(_read(found / "compare-quantized.json")),
        "noisy_depth": _figures(_read(found / "noisy-rgbd" / "report.json")),
        "depth_questions": {**depth, "difference": _difference(_read(found / "compare-depth.json"))},
        "baselines": {name: _figures(_read(found / name / "report.json")) for name in BASELINES},
    }
    return {**report, "bars": [bar.to_json() for bar in bars(report)]}


def bars(report: Json) -> Iterator[Bar]:
    """What nano was to reach, for the full-precision bundle and for the one that ships."""
    for subject in SUBJECTS:
        own = report[subject]["rgbd"]
        for split, limit in zip(SPLITS, (0.80, 0.70, 0.60), strict=True):
            yield Bar(f"{subject}: {split}", own["splits"].get(split, {}).get("accuracy"), limit)
        yield Bar(f"{subject}: AUROC of confidence", own["auroc"], 0.70)
        nouns = [group["accuracy"] > 0.5 for group in own["by"].get("noun", {}).values()]
        yield Bar(f"{subject}: nouns above 50 %, share", sum(nouns) / len(nouns) if nouns else None, 35 / 40)
    yield Bar("depth questions: gain by depth, lower end", report["depth_questions"]["difference"]["low"], 0.0, "above")
    lost = report["bundle"]["rgbd"]["mean"] - report["noisy_depth"]["mean"]
    yield Bar("bundle: lost with sensor-noisy depth", round(lost, 4), 0.05, "at most")
    for name, baseline in report["baselines"].items():
        worst = max((split["accuracy"] for split in baseline["splits"].values()), default=None)
        yield Bar(f"{name}: best split", worst, 0.25, "at most")


def card_lines(report: Json) -> list[str]:
    """The figures as the model card shows them."""
    lines = ["| strict accuracy, % (95 % interval) | " + " | ".join(SPLITS) + " | mean |", "|---|" + "---|" * 4]
    for subject, what in (("bundle", "shipped bundle"), ("reference", "full precision")):
        for modality, seen in (("rgbd", "RGB-D"), ("rgb", "RGB only")):
            lines.append(_row(f"{what}, {seen}", report[subject][modality]))
    lines.append(_row("shipped bundle, sensor-noisy depth", report["noisy_depth"]))
    lines += [_row(f"baseline: {name}", baseline) for name, baseline in report["baselines"].items()]
    lines += ["", "| | value | asked | |", "|---|---|---|---|"]
    for bar in report["bars"]:
        value = "-" if bar["value"] is None else f"{bar['value']:.3f}"
        lines.append(
            f"| {bar['name']} | {value} | {bar['rule']} {bar['limit']:.3g} | {'met' if bar['met'] else 'missed'} |"
        )
    lines += ["", *_breakdown("steps", report["bundle"]["rgbd"], "by_step")]
    lines += ["", *_breakdown("kind", report["bundle"]["rgbd"], "by_kind")]
    return lines


def fill_card(text: str, lines: Sequence[str]) -> str:
    """A model card with its figures replaced.

    Raises:
        DataError: It has no place for them.
    """
    filled, count = CARD_BLOCK.subn(lambda found: f"{found[1]}\n" + "\n".join(lines) + f"\n\n{found[2]}", text)
    if count != 1:
        raise DataError("the model card needs one place for figures: `<!-- figures: ... -->` to `<!-- /figures -->`")
    return filled


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); models/nano/ship.sh makes it") from error
    if not isinstance(data, dict):
        raise DataError(f"{path} holds no report")
    return data


def _check_same_questions(asked: Mapping[str, Json]) -> None:
    hashes = {name: report["dataset"]["hash"] for name, report in asked.items()}
    if len(set(hashes.values())) > 1:
        raise DataError(f"these were asked on different questions: {hashes}; run models/nano/ship.sh again")


def _figures(report: Json) -> dict[str, Any]:
    """What is kept of a report inside another."""
    return {name: report[name] for name in ("splits", "mean", "auroc", "by", "subject", "dataset")}


def _difference(compared: Json) -> dict[str, Any]:
    """Verdict and paired difference, subject minus reference, with its interval."""
    kept = {name: compared[name] for name in ("verdict", "conclusive", "n", "reference", "subject")}
    return {**kept, **compared["difference"]}


def _row(name: str, figures: Json) -> str:
    cells = [_cell(figures["splits"].get(split)) for split in SPLITS]
    return f"| {name} | " + " | ".join(cells) + f" | {100 * figures['mean']:.1f} |"


def _cell(group: Json | None) -> str:
    if group is None:
        return "-"
    low, high = group["interval"]
    return f"{100 * group['accuracy']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _breakdown(title: str, figures: Json, field: str) -> Iterator[str]:
    names = list(dict.fromkeys(name for split in figures["splits"].values() for name in split[field]))
    yield f"| shipped bundle, RGB-D, by {title} | " + " | ".join(SPLITS) + " |"
    yield "|---|" + "---|" * len(SPLITS)
    for name in names:
        groups = [figures["splits"].get(split, {}).get(field, {}).get(name) for split in SPLITS]
        yield f"| {name} | " + " | ".join(f"{_cell(g)}, n {g['n']}" if g else "-" for g in groups) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m bench.nano_report", description="The report of a shipped nano.")
    parser.add_argument("found", type=Path, help="folder with what was found")
    parser.add_argument("out", type=Path, help="report.json to write")
    parser.add_argument("--card", type=Path, help="model card whose figures are replaced")
    options = parser.parse_args(arguments)
    try:
        report = nano_report(options.found)
        with whole_file(options.out) as partial:
            partial.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if options.card is not None:
            filled = fill_card(options.card.read_text(encoding="utf-8"), card_lines(report))
            with whole_file(options.card) as partial:
                partial.write_text(filled, encoding="utf-8")
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    for bar in report["bars"]:
        say(f"{'met   ' if bar['met'] else 'MISSED'}  {bar['name']}: {bar['value']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
