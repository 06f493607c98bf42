"""How far bundles drift from their parent on questions of one's choice: the comparison of the error report, held out.

    python -m quantize.measure_answers PARENT BUNDLE... --data DATA [--count 256 --seed 1 --out FOLDER]

The report inside a bundle compares answers on the calibration questions, on which GPTQ and importance matrices were
tuned. This asks others. Each bundle's figures go to FOLDER/<name>.json, which `compare_reports` pairs question by
question.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from edge_runtime.bundle import Bundle, open_bundle
from edge_runtime.errors import ConfigError, EdgeError
from hardware.storage import whole_file
from quantize.answer_drift import answer_drifts
from quantize.calibration import CalibrationSet
from quantize.calibration_sources import open_calibration
from quantize.error_report import answers_json
from quantize.prompts import asked_prompts


def measure_answers(parent: Bundle, bundles: list[Bundle], questions: CalibrationSet) -> dict[str, dict[str, Any]]:
    """Compare bundles with their parent.

    Args:
        parent: The full-precision bundle.
        bundles: Made from it, with the parent's tile budget.
        questions: What is asked; best not what the bundles were calibrated on.

    Returns:
        Name of each bundle -> the object `answers` of an error report.

    Raises:
        ConfigError: Two bundles have one name.
        InferenceError: A native library failed.
    """
    names = [bundle.manifest.name for bundle in bundles]
    if len(set(names)) != len(names):
        raise ConfigError(
            f"bundles are told apart by their names, got {', '.join(names)}; quantize --name gives others"
        )
    prompts = asked_prompts(parent, questions)
    return {b.manifest.name: answers_json(answer_drifts(parent, b, questions, prompts)) for b in bundles}


def main(arguments: list[str]) -> int:
    """Print and write the comparison; returns the exit code."""
    try:
        _compare(_options(arguments))
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m quantize.measure_answers", description=__doc__.split("\n", maxsplit=1)[0]
    )
    parser.add_argument("parent", type=Path)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="as for quantize --calibration")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for one JSON file per bundle")
    return parser.parse_args(arguments)


def _compare(options: argparse.Namespace) -> None:
    parent = open_bundle(options.parent)
    questions = open_calibration(
        options.data,
        count=options.count,
        seed=options.seed,
        point_suffix=parent.manifest.prompt.point_suffix,
        needs_depth=parent.manifest.image.depth is not None,
    )
    found = measure_answers(parent, [open_bundle(path) for path in options.bundles], questions)
    for name, answers in found.items():
        sys.stdout.write(_line(name, answers) + "\n")
        if options.out is not None:
            with whole_file(options.out / f"{name}.json") as partial:
                partial.write_text(json.dumps({"bundle": name, "answers": answers}, indent=1) + "\n", encoding="utf-8")


def _line(name: str, found: dict[str, Any]) -> str:
    shift, kl = found["point_shift_px"], found["kl_nats"]
    moved = f"points moved by p50 {shift['p50']} p95 {shift['p95']} max {shift['max']} px at 640x480"
    if shift["p50"] is None:
        moved = "no points to compare"
    return (
        f"{name}: {found['identical']} of {found['questions']} answers identical, {found['same_tokens']} of "
        f"{found['tokens']} tokens, KL {kl['mean']} nats, {moved}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
