"""`docs/performance.md` from what was measured: bars, tables and figures. Nothing is measured here."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from bench.performance.bars import bars_of, encoders_ms
from bench.report.figures import stacked

STAGES: Final = ("preprocess", "rgb_encoder", "depth_encoder", "prefill", "decode", "parse")
# Each: its step, what varies, and why its cost grows as it does.
CURVES: Final = {
    "tiles": (
        "Tiles",
        "Every tile is a run of both towers and its tokens in the prompt: towers, and products of the prefill, grow in "
        "proportion; attention over the prompt grows with its square and shows from some thousand rows on. Decode "
        "reads the longer KV cache and grows a little.",
    ),
    "answer_tokens": (
        "Tokens of the answer",
        "Every token reads all weights of the decoder once: decode grows in proportion, everything before it does not.",
    ),
    "sizes": (
        "Size of the picture",
        "nano takes one tile, so only making the picture smaller and turning depth into a picture grow.",
    ),
}
_HEAD: Final = """# Performance

Written by `python -m bench.performance` from measurements on one machine, step by step: do not edit. Ratios carry
over to other machines better than times. What the verbs measure, and how, is in [speed](speed.md).
"""

Json = Mapping[str, Any]


def page(found: Json) -> str:
    """The page as Markdown; figures are named as `figures` names them."""
    return "\n".join([_HEAD, *_machine(found), *_bars(found), *_answers(found), *_peers(found), *_curves(found),
                      *_floors(found), *_builds(found), *_packing(found)]).rstrip() + "\n"  # fmt: skip


def figures(found: Json) -> dict[str, str]:
    """The figures as SVG, by file name."""
    drawn = {}
    for step, (title, _) in CURVES.items():
        if step in found:
            rows = {key: {s: report["stages_ms"][s]["p50"] for s in STAGES} for key, report in found[step].items()}
            drawn[_figure(step)] = stacked(step, rows, parts=STAGES, x_label=f"ms, by {title.lower()}")
    return drawn


def _figure(step: str) -> str:
    return f"performance-{step.replace('_', '-')}.svg"


def _machine(found: Json) -> Iterator[str]:
    if card := found.get("machine"):
        versions = ", ".join(f"{name} {version}" for name, version in card["libraries"].items())
        yield f"{card['model']}, {card['cores']} cores ({', '.join(card['cpu_features'])}); {versions}.\n"


def _bars(found: Json) -> Iterator[str]:
    yield "## What it was to reach\n"
    yield "| | measured | wanted | |\n|---|---|---|---|"
    yield from (bar.row() for bar in bars_of(found))
    yield ""


def _answers(found: Json) -> Iterator[str]:
    names = {
        "small": "nano, new picture and question",
        "small_again": "nano, same picture asked again",
        "large": "2B shape, one tile, new picture and question",
        "large_again": "2B shape, same picture asked again",
    }
    yield "## From question to point\n"
    yield "| ms, p50 | total | p95 | RGB | depth | prefill | decode | rest | held MiB | start s |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for step, name in names.items():
        if (report := found.get(step)) is None:
            yield f"| {name} | not measured | | | | | | | | |"
            continue
        stages = report["stages_ms"]
        rgb, depth, prefill, decode = (_ms(stages[s]["p50"]) for s in STAGES[1:5])
        rest = _ms(stages["preprocess"]["p50"] + stages["parse"]["p50"])
        total, p95 = _ms(stages["total"]["p50"]), _ms(stages["total"]["p95"])
        held, start = f"{report['peak_held_mib']:.0f}", f"{report['cold_start_s']:.1f}"
        yield f"| {name} | {total} | {p95} | {rgb} | {depth} | {prefill} | {decode} | {rest} | {held} | {start} |"
    yield "\nStages are busy times; of encoders that run side by side they exceed the total.\n"


def _peers(found: Json) -> Iterator[str]:
    yield "## Beside what one would use instead\n"
    for step, name in (("small_peers", "nano, 640x480"), ("large_peers", "2B shape, one tile, 14 tokens")):
        if (report := found.get(step)) is None:
            yield f"{name}: not measured.\n"
            continue
        work = report["workload"]
        yield f"{name}: median of {work['rounds']} rounds, each in another order, {work['count']} answers in each.\n"
        yield "| | times ours | lowest to highest | ms | encoders | prefill | decode | held MiB |"
        yield "|---|---|---|---|---|---|---|---|"
        yield from map(_peer_row, report["peers"])
        yield ""


def _peer_row(row: Json) -> str:
    if row["ratio"] is None:
        return f"| {row['what']} | {row['reason']} | | | | | | |"
    stages, ratio = row["stages_ms"], row["ratio"]
    held = "-" if row["peak_held_mib"] is None else f"{row['peak_held_mib']:.0f}"
    cells = [_ms(row["total_ms"]["median"]), _ms(encoders_ms(row)), _ms(stages["prefill"]), _ms(stages["decode"]), held]
    return (
        f"| {row['what']} | {ratio['median']:.2f} | {ratio['low']:.2f} to {ratio['high']:.2f} | {' | '.join(cells)} |"
    )


def _curves(found: Json) -> Iterator[str]:
    yield "## What it grows with\n"
    for step, (title, why) in CURVES.items():
        yield f"### {title}\n"
        if step not in found:
            yield "Not measured.\n"
            continue
        yield f"{why}\n\n![{title}]({_figure(step)})\n"
        yield f"| {title.lower()} | prompt rows | RGB ms | depth ms | prefill ms | decode ms | total ms |"
        yield "|---|---|---|---|---|---|---|"
        for key, report in found[step].items():
            stages = [_ms(report["stages_ms"][s]["p50"]) for s in (*STAGES[1:5], "total")]
            yield f"| {key} | {report['tokens']['prompt']:.0f} | {' | '.join(stages)} |"
        yield ""


def _floors(found: Json) -> Iterator[str]:
    yield "## The floor\n"
    yield "Operations and bytes of each stage, counted from the bundle's files, over what this machine can do:\n"
    yield "| | bound by | floor ms | measured ms | times the floor |\n|---|---|---|---|---|"
    for step, name in (("small_floor", "nano"), ("large_floor", "2B shape")):
        for stage, row in (found[step]["here"]["stages"] if step in found else {}).items():
            floor, measured = _ms(row["predicted"]), _ms(row["measured"])
            yield f"| {name}, {stage} | {row['bound']} | {floor} | {measured} | {row['ratio']:.1f} |"
    for step in ("large_floor", "small_floor"):
        if step in found:
            top = found[step]["here"]["ceilings"]
            can = f"{top['fp32_gops']:.0f} billion fp32 operations and {top['gb_per_s']:.1f} GB read a second"
            yield f"\nAt most: {can}.\n"
            return
    yield ""


def _builds(found: Json) -> Iterator[str]:
    yield "## llama.cpp, as built here and from a plain pip install\n"
    if (report := found.get("decoder_builds")) is None:
        yield "Not measured.\n"
        return
    asked = f"{report['rows']} rows and {report['tokens']} tokens, {report['rounds']} rounds in turns"
    yield f"The same GGUF file, {asked}:\n"
    yield "| | prefill ms | decode ms | threads |\n|---|---|---|---|"
    for name in ("ours", "plain"):
        row = report[name]
        threads = f"{row['prefill_threads']:.0f} and {row['decode_threads']:.0f}"
        yield f"| {name} | {_ms(row['prefill_s'] * 1e3)} | {_ms(row['decode_s'] * 1e3)} | {threads} |"
    told = {part: report["times_faster"][part] for part in ("prefill", "decode")}
    words = [f"{part} {r['median']:.2f} times ({r['low']:.2f} to {r['high']:.2f})" for part, r in told.items()]
    yield f"\nOurs is faster by: {', '.join(words)}.\n"


def _packing(found: Json) -> Iterator[str]:
    yield "## Weights packed again by ONNX Runtime\n"
    yield "| encoders of | weights | one tile, ms | held MiB | load s |\n|---|---|---|---|---|"
    for step, name in (("small_packing", "nano"), ("large_packing", "2B shape")):
        for way, words in (("packed", "packed (used)"), ("as_stored", "as stored")):
            if step in found:
                row = found[step][way]
                yield f"| {name} | {words} | {_ms(row['encode_ms'])} | {row['held_mib']:.0f} | {row['load_s']:.2f} |"
    yield ""


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
