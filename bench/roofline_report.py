"""From flags to a roofline: what each Jetson module could reach, and this machine beside its own measurement."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.ceilings import measured_ceilings
from bench.latency_report import SYNTHETIC_ANSWER_TOKENS, LatencyRequest, bundle_of, known_decoder_type, run
from bench.machine import MachineCard, machine_card
from bench.roofline import (
    STAGES,
    ModelCost,
    Question,
    beside,
    cost_of_bundle,
    cost_of_shape,
    every_module,
    fits,
    predict,
    question,
    to_json,
    total_ms,
    weight_bytes,
    work_of,
)
from edge_runtime.bundle import Bundle
from edge_runtime.errors import ConfigError
from hardware.profiles import Ceilings, ClockMode

_COUNT, _WARMUP = 5, 1
_CPU = "CPUExecutionProvider"


@dataclass(frozen=True)
class RooflineRequest:
    """What to predict, and what to hold it against."""

    latency: LatencyRequest  # bundle or shape, picture size, tile budget
    measured: Path | None = None  # a report of `bench latency --json`
    count: int | None = None  # questions to measure where there is no report; 0: none


def make(request: RooflineRequest) -> dict[str, Any]:
    """Predict, and measure if asked.

    Returns:
        The object of `bench roofline --json` (docs/schema/bench_roofline.json).

    Raises:
        ConfigError: Flags contradict, or the report is of something else.
        EdgeError: The bundle cannot be opened, written, counted or run.
    """
    shape = request.latency.shape()
    measured = _read_report(request.measured) if request.measured else None
    bundle = None
    if shape is not None and (measured is not None or request.count == 0):
        kind = known_decoder_type(request.latency.decoder_type)
        model, name = cost_of_shape(shape, kind), f"synthetic-{shape.name}-{kind or shape.decoder_type}"
    else:
        bundle = bundle_of(request.latency)
        model, name = cost_of_bundle(bundle), bundle.manifest.name
    if measured is None and bundle is not None and request.count != 0:
        measured = _measure(request, bundle)
    if measured is not None and measured["bundle"]["name"] != name:
        raise ConfigError(f"{request.measured} is about {measured['bundle']['name']}, counted was {name}")
    return _report(request.latency, model, name, measured)


def _report(latency: LatencyRequest, model: ModelCost, name: str, measured: Mapping[str, Any] | None) -> dict[str, Any]:
    asked = _question(latency, model, measured)
    work = work_of(model, asked)
    return {
        "kind": "roofline",
        "bundle": {"name": name, "weight_bytes": weight_bytes(model)},
        "question": {
            "tower_tiles": asked.tower_tiles,
            "projector_tiles": asked.projector_tiles,
            "prompt_tokens": asked.prompt_tokens,
            "answer_tokens": asked.answer_tokens,
            "depth": asked.depth,
        },
        "work": to_json(work),
        "modules": [
            {
                "profile": profile.name,
                "mode": mode.name,
                "default": mode.default,
                "fits": fits(profile, weight_bytes(model)),
                "ceilings": _ceilings_json(profile.ceilings(mode)),
                "stages_ms": {s: round(p.ms, 3) for s, p in predicted.items()}
                | {"total": round(total_ms(predicted), 3)},
                "bound": {s: p.bound for s, p in predicted.items()},
            }
            for profile, mode in every_module()
            for predicted in [predict(work, profile.ceilings(mode))]
        ],
        "here": _here(work, measured) if measured is not None else None,
    }


def _here(work: Any, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Prediction for this machine beside what was measured on it."""
    card = machine_card()
    if measured["machine"]["model"] != card.board.model:
        raise ConfigError(
            f"the report was measured on {measured['machine']['model']!r}, this is {card.board.model!r}; its ceilings "
            "can only be measured there"
        )
    ceilings, source = _ceilings_here(card, measured["providers"])
    predicted = predict(work, ceilings)
    stages = {stage: measured["stages_ms"][stage]["p50"] for stage in STAGES}
    busy_ms = sum(stages.values())
    return {
        "ceilings": _ceilings_json(ceilings),
        "source": source,
        "stages": beside(predicted, stages),
        "total": {
            "predicted": round(total_ms(predicted), 3),
            "measured": round(busy_ms, 3),
            "ratio": round(busy_ms / total_ms(predicted), 2),
        },
        "samples": measured["samples"],
        "other_load_cores": measured["other_load_cores"],
        "machine": card.to_json(),
    }


def _ceilings_here(card: MachineCard, providers: list[str]) -> tuple[Ceilings, str]:
    """A Jetson's published ceilings where its GPU ran the encoders, else what the processor shows."""
    if card.profile is not None and providers[:1] != [_CPU]:
        mode: ClockMode | None = card.profile.mode(card.power_mode.name or "") if card.power_mode else None
        chosen = mode or card.profile.default_mode
        return card.profile.ceilings(chosen), f"{card.profile.name}, mode {chosen.name}, published"
    return measured_ceilings(), "measured: single-precision products and memory reads of NumPy on all cores"


def _question(latency: LatencyRequest, model: ModelCost, measured: Mapping[str, Any] | None) -> Question:
    """As measured, else as asked for."""
    if measured is not None:
        workload, tokens = measured["workload"], measured["tokens"]
        return question(
            model,
            width=workload["width"],
            height=workload["height"],
            max_tiles=workload["max_tiles"],
            depth=workload["depth"],
            prompt_tokens=round(tokens["prompt"]),
            answer_tokens=round(tokens["generated"]),
        )
    workload = latency.workload()
    return question(
        model,
        width=workload.width,
        height=workload.height,
        max_tiles=latency.max_tiles,
        depth=workload.depth,
        answer_tokens=workload.answer_tokens or SYNTHETIC_ANSWER_TOKENS,
    )


def _measure(request: RooflineRequest, bundle: Bundle) -> dict[str, Any]:
    """A short measurement; large shapes say themselves how short."""
    shape = request.latency.shape()
    count = request.count or (shape.count if shape else _COUNT)
    warmup = shape.warmup if shape else _WARMUP
    latency = replace(request.latency, count=count, warmup=warmup)
    return run(latency, bundle).to_json()


def _read_report(path: Path) -> dict[str, Any]:
    """The last line of a file that `bench latency --json` wrote.

    Raises:
        ConfigError: It cannot be read or is something else.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8").strip().splitlines()[-1])
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"{path} is no report of `bench latency --json`: {error}") from error
    if not isinstance(report, dict) or report.get("kind") != "latency":
        raise ConfigError(f"{path} is no report of `bench latency --json`")
    return report


def _ceilings_json(ceilings: Ceilings) -> dict[str, float]:
    return {
        "fp32_gops": round(ceilings.fp32_ops / 1e9, 1),
        "fp16_gops": round(ceilings.fp16_ops / 1e9, 1),
        "int8_gops": round(ceilings.int8_ops / 1e9, 1),
        "gb_per_s": round(ceilings.bytes / 1e9, 1),
    }


# --- for a person -------------------------------------------------------------------------------------


def lines_of(report: Mapping[str, Any]) -> Iterator[str]:
    """The report as plain lines."""
    asked = report["question"]
    yield f"bundle     {report['bundle']['name']}  {report['bundle']['weight_bytes'] / 2**20:.0f} MiB of weights"
    yield (
        f"question   {asked['tower_tiles']} tiles a modality{'' if asked['depth'] else ' (no depth)'}, "
        f"{asked['prompt_tokens']} prompt tokens, {asked['answer_tokens']} written"
    )
    yield "shortest possible, ms; * default mode, - weights do not fit"
    head = "".join(f"{stage:>15}" for stage in (*STAGES, "total"))
    yield f"{'module':<22}{'mode':<13}{head}"
    for row in report["modules"]:
        mark = f"{'*' if row['default'] else ' '}{' ' if row['fits'] else '-'}"
        cells = "".join(f"{row['stages_ms'][stage]:15.1f}" for stage in (*STAGES, "total"))
        yield f"{row['profile']:<22}{row['mode']:<11}{mark}{cells}"
    yield from _here_lines(report["here"])


def _here_lines(here: Mapping[str, Any] | None) -> Iterator[str]:
    if here is None:
        return
    ceilings = here["ceilings"]
    yield f"here: {ceilings['fp32_gops']:.0f} Gop/s, {ceilings['gb_per_s']:.1f} GB/s ({here['source']})"
    yield f"{'ms':<16}{'predicted':>12}{'measured':>12}{'ratio':>8}  bound"
    for stage, row in {**here["stages"], "total": here["total"]}.items():
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
        yield f"{stage:<16}{row['predicted']:>12.1f}{row['measured']:>12.1f}{ratio:>8}  {row.get('bound', '')}"
    if (load := here["other_load_cores"]) is not None and load > 0.1:
        yield f"warning: other processes kept {load:.1f} cores busy while this was measured"
