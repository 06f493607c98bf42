"""From flags to a latency measurement, and how its result looks to a person."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.budgets import BUDGETS, hold_against, read_budget
from bench.latency import DEFAULT_TIMEOUT_S, LatencyReport, measure_latency
from bench.scenarios import SCENARIOS, Scenario, Workload
from bench.shapes import DECODER_TYPES, DecoderType, ModelShape, is_synthetic, shape_named
from edge_runtime.bundle import Bundle, default_bundle, open_bundle
from edge_runtime.errors import BudgetExceeded, ConfigError

# What the models of the paper write for one point; made-up weights never stop by themselves.
SYNTHETIC_ANSWER_TOKENS = 14
_COUNT, _WARMUP = 30, 3


@dataclass(frozen=True)
class LatencyRequest:
    """What to measure, as the command line gives it."""

    bundle: Path | None = None
    synthetic: str | None = None
    decoder_type: str | None = None  # of a made-up bundle
    out: Path | None = None  # where a made-up bundle is kept
    scenario: str = "single"
    count: int | None = None
    warmup: int | None = None
    size: str = "640x480"
    fps: float = 15.0
    camera: str | None = None
    depth: bool = True
    grammar: bool = True
    answer_tokens: int | None = None
    max_tiles: int | None = None
    threads: int | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    budget: str | None = None
    budgets_file: Path = BUDGETS

    def shape(self) -> ModelShape | None:
        """The shape of a made-up bundle.

        Raises:
            ConfigError: It is unknown, or flags contradict.
        """
        if self.synthetic is None:
            if self.decoder_type is not None or self.out is not None:
                raise ConfigError("--decoder-type and --out are about the bundle that --synthetic makes up")
            return None
        if self.bundle is not None:
            raise ConfigError("--bundle and --synthetic name two bundles: choose one")
        return shape_named(self.synthetic)

    def workload(self, *, made_up: bool = False) -> Workload:
        """What is asked.

        Args:
            made_up: Weights are random: answers have a fixed length then, and no grammar, which would have nothing
                to hold on to and be fought at every token.

        Raises:
            ConfigError: A value makes no sense.
        """
        shape = self.shape()
        random = made_up or shape is not None
        width, height = picture_size(self.size)
        return Workload(
            scenario=_scenario(self.scenario),
            count=self.count if self.count is not None else shape.count if shape else _COUNT,
            warmup=self.warmup if self.warmup is not None else shape.warmup if shape else _WARMUP,
            width=width,
            height=height,
            depth=self.depth,
            grammar=self.grammar and not random,
            answer_tokens=self.answer_tokens or (SYNTHETIC_ANSWER_TOKENS if random else None),
            fps=self.fps,
            camera=self.camera,
        )


def measure(request: LatencyRequest) -> dict[str, Any]:
    """Measure as asked.

    Returns:
        The object of `bench latency --json`.

    Raises:
        ConfigError: Flags contradict, or the budget is unknown; before anything is measured.
        EdgeError: The bundle cannot be opened, written or run.
    """
    request.workload()  # says what is wrong before gigabytes are written
    budget = read_budget(request.budget, request.budgets_file) if request.budget else None
    report = run(request, bundle_of(request))
    verdict = hold_against(report, budget) if budget else None
    return report.to_json() | {"budget": verdict.to_json() if verdict else None}


def run(request: LatencyRequest, bundle: Bundle) -> LatencyReport:
    """The measurement alone, behind a progress bar."""
    workload = request.workload(made_up=is_synthetic(bundle.manifest))
    with _progress(workload.warmup + workload.count, "questions") as advance:
        return measure_latency(
            bundle,
            workload,
            max_tiles=request.max_tiles,
            n_threads=request.threads,
            timeout_s=request.timeout_s,
            on_answer=advance,
        )


def bundle_of(request: LatencyRequest, *, golden: bool = False) -> Bundle:
    """The bundle to measure; a made-up one is written if it is not there yet, with golden values if they are needed.

    Raises:
        ConfigError: The decoder type is unknown or does not fit, or what writes it is not installed.
        BundleError: The bundle is not whole.
        StorageError: No room for a made-up one.
    """
    shape = request.shape()
    if shape is None:
        return open_bundle(request.bundle or default_bundle())
    kind = known_decoder_type(request.decoder_type)
    try:
        from bench.synthetic import synthetic_bundle
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"making up a bundle needs {error.name}, which is not installed here: pip install 'roborefer-edge[bench]'"
        ) from error
    with _progress(None, f"making up {shape.name}") as advance:
        done: list[str] = []

        def begin(step: str) -> None:
            done.append(step)
            advance(len(done))

        return synthetic_bundle(shape, kind, out=request.out, golden=golden, progress=begin)


def known_decoder_type(name: str | None) -> DecoderType | None:
    """A decoder type as the command line names it; None stays None.

    Raises:
        ConfigError: It is unknown.
    """
    for known in DECODER_TYPES:
        if name == known:
            return known
    if name is not None:
        raise ConfigError(f"no decoder type {name!r}; there are {', '.join(DECODER_TYPES)}")
    return None


def insist(report: Mapping[str, Any]) -> None:
    """Fail when a budget was exceeded.

    Raises:
        BudgetExceeded: Names each limit.
    """
    budget = report["budget"]
    if budget is not None and not budget["ok"]:
        over = "; ".join(f"{e['limit']} {e['measured']:g}, allowed {e['allowed']:g}" for e in budget["exceeded"])
        raise BudgetExceeded(f"over the budget {budget['name']}: {over}")


# --- for a person -------------------------------------------------------------------------------------


def lines_of(report: Mapping[str, Any]) -> Iterator[str]:
    """The report as plain lines."""
    bundle, work, machine = report["bundle"], report["workload"], report["machine"]
    types = ", ".join(bundle["decoder_types"])
    yield f"bundle     {bundle['name']}  {bundle['bytes'] / 2**20:.0f} MiB  decoder {types}"
    yield (
        f"asked      {work['scenario']}: {report['samples']} questions after {work['warmup']} to warm up, "
        f"{work['width']}x{work['height']}, {report['tokens']['prompt']:.0f} prompt tokens, "
        f"{report['tokens']['generated']:.0f} written"
    )
    yield f"machine    {machine['model']}, {machine['cores']} cores, load {machine['load_1min']}{_mode(machine)}"
    yield f"{'ms':<16}{'p50':>10}{'p95':>10}{'p99':>10}"
    for stage, found in {**report["stages_ms"], "first token": report["ttft_ms"]}.items():
        yield f"{stage:<16}{_cell(found['p50'])}{_cell(found['p95'])}{_cell(found['p99'])}"
    speed = report["tokens_per_s"]
    yield (
        f"speed      {report['answers_per_s']:.2f} answers/s, prefill {_told(speed['prefill'], '.0f')} tokens/s, "
        f"decode {_told(speed['decode'], '.1f')} tokens/s"
    )
    yield (
        f"memory     {_told(report['peak_held_mib'], '.0f')} MiB held at most, {report['peak_rss_mib']:.0f} MiB with "
        f"mapped files; cold start {report['cold_start_s']:.1f} s"
    )
    yield from _board_lines(report)
    yield from _stream_lines(report)
    yield from _budget_lines(report)


def _board_lines(report: Mapping[str, Any]) -> Iterator[str]:
    board = report["board"]
    clocks = (
        ("GPU", "gpu_mhz", "MHz"),
        ("memory", "emc_mhz", "MHz"),
        ("CPU", "cpu_mhz", "MHz"),
        ("heat", "temp_c", "C"),
    )
    told = [f"{name} {board[key]['mean']:.0f} {unit}" for name, key, unit in clocks if board[key]]
    if board["throttled"]:
        told.append("clocks were held back")
    yield f"board      {', '.join(told) or 'tells nothing'}"
    if report["energy_per_answer_j"] is not None:
        yield f"energy     {report['energy_per_answer_j']:.2f} J per answer at {board['power_w']['mean']:.1f} W"
    if (load := report["other_load_cores"]) is not None and load > 0.1:
        yield f"warning    other processes kept {load:.1f} cores busy: these times are not the machine's own"


def _stream_lines(report: Mapping[str, Any]) -> Iterator[str]:
    if stream := report["stream"]:
        age_ms = stream["age_ms"]["p50"]
        yield f"stream     frame age at the answer {age_ms:.0f} ms, {stream['dropped']} frames passed over"


def _budget_lines(report: Mapping[str, Any]) -> Iterator[str]:
    budget = report["budget"]
    if budget is None:
        return
    yield f"budget     {budget['name']} ({budget['for']}): {'kept' if budget['ok'] else 'EXCEEDED'}"
    for over in budget["exceeded"]:
        yield f"  over     {over['limit']} {over['measured']:g}, allowed {over['allowed']:g}"
    if budget["not_measured"]:
        yield f"  unknown  {', '.join(budget['not_measured'])}: not told here"


def _mode(machine: Mapping[str, Any]) -> str:
    mode = machine["power_mode"]
    return f", power mode {mode['id']} {mode['name'] or ''}".rstrip() if mode else ""


def _cell(value: float | None) -> str:
    return f"{'-':>10}" if value is None else f"{value:10.1f}"


def _told(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)


# --- flags --------------------------------------------------------------------------------------------


def picture_size(text: str) -> tuple[int, int]:
    """`640x480` as width and height."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise ConfigError(f"--size {text!r} is no WIDTHxHEIGHT such as 848x480")
    return int(width), int(height)


def _scenario(name: str) -> Scenario:
    for known in SCENARIOS:
        if name == known:
            return known
    raise ConfigError(f"no scenario {name!r}; there are {', '.join(SCENARIOS)}")


@contextmanager
def _progress(total: int | None, what: str) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, if that is a terminal; told how many are done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, completed=done)
