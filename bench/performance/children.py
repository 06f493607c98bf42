"""Measurements that need a process each: decoders of two builds in turns, encoders with and without packed weights."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from edge_runtime.errors import InferenceError
from hardware.child import ChildResult, run_command, run_module

TIMEOUT_S: Final = 1800.0
NOTHING_OF_OURS: Final = {"PYTHONPATH": ""}

Json = Mapping[str, Any]


def decoder_speed(bundle: Path, plain_python: Path, *, rows: int, tokens: int, rounds: int) -> dict[str, Any]:
    """Prefill and decode of one GGUF file: our decoder, and `llama_cpp.Llama` as its documentation shows it.

    Args:
        bundle: Whose decoder; both read the same file.
        plain_python: Interpreter with `pip install llama-cpp-python` and nothing else said.
        rows: Of the prompt.
        tokens: Of the answer.
        rounds: Both once in each, in turns, every other round backwards.

    Raises:
        InferenceError: A process failed.
    """
    plain_script = Path(__file__).with_name("decoder_plain.py")
    asked = [str(bundle.resolve()), str(rows), str(tokens)]
    run: dict[str, Callable[[], ChildResult]] = {
        "ours": lambda: run_module("bench.performance.decoder_ours", *asked, timeout_s=TIMEOUT_S),
        "plain": lambda: run_command(
            [str(plain_python.absolute()), str(plain_script), *asked], timeout_s=TIMEOUT_S, environment=NOTHING_OF_OURS
        ),
    }
    found: dict[str, list[Json]] = {name: [] for name in run}
    for number in range(rounds):
        for name in list(run)[:: -1 if number % 2 else 1]:
            found[name].append(_told(run[name](), f"the decoder of {name}"))
    return {
        "kind": "decoder_builds",
        "rows": rows,
        "tokens": tokens,
        "rounds": rounds,
        **{name: _middle(told) for name, told in found.items()},
        "times_faster": {
            part: _spread([p[f"{part}_s"] / o[f"{part}_s"] for o, p in zip(found["ours"], found["plain"], strict=True)])
            for part in ("prefill", "decode")
        },
    }


def packing(bundle: Path, *, rounds: int) -> dict[str, Any]:
    """Time and memory of a bundle's encoders with ONNX Runtime's packed copies of the weights and without.

    Raises:
        InferenceError: A process failed.
    """
    found: dict[str, list[Json]] = {"packed": [], "as_stored": []}
    for number in range(rounds):
        for name in list(found)[:: -1 if number % 2 else 1]:
            child = run_module("bench.performance.encoders_packed", str(bundle.resolve()), name, timeout_s=TIMEOUT_S)
            found[name].append(_told(child, "the encoders"))
    return {"kind": "packing", "rounds": rounds, **{name: _middle(told) for name, told in found.items()}}


def _told(child: ChildResult, who: str) -> Json:
    if child.returncode != 0 or child.timed_out:
        raise InferenceError(f"{who} could not be measured: {child.last_words or 'it took too long'}")
    told: Json = json.loads(child.stdout.strip().splitlines()[-1])
    return told


def _middle(told: Sequence[Json]) -> dict[str, Any]:
    """Medians of the numbers; what is no number is the same each time."""
    return {
        key: statistics.median(one[key] for one in told) if isinstance(value, int | float) else value
        for key, value in told[0].items()
    }


def _spread(ratios: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
