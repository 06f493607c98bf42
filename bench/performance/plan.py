"""What is measured for the page, and where it is kept: a JSON file for each step, so that a stopped run goes on.

Small steps use nano, with real weights and a picture of its size. Large steps use a bundle of the 2B's true shape,
with whatever weights: nothing on the way depends on their values (`docs/speed.md`).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bench.latency_report import LatencyRequest, bundle_of, run
from bench.machine import machine_card
from bench.peer_bundles import MaterialRequest
from bench.peers import PeersRequest, run_peers
from bench.performance.children import decoder_speed, packing
from bench.roofline_report import RooflineRequest
from bench.roofline_report import make as make_roofline
from edge_runtime.errors import ConfigError
from hardware.storage import whole_file

ONE_TILE: Final = "448x448"  # what a model with tiling takes as a single tile
TILES: Final = (1, 3, 7, 13)
ANSWER_TOKENS: Final = (7, 14, 28, 56)
SIZES: Final = ("320x240", "640x480", "1280x720", "1920x1080")
# Rows of the prompt and tokens of the answer that decoders are compared with: a question about one tile with depth.
PROMPT_ROWS: Final = 350
ANSWER: Final = 14

Json = Mapping[str, Any]
Step = Callable[["Plan"], Json]


@dataclass(frozen=True)
class Plan:
    """What there is to measure; None: its steps are left out, and the page says so."""

    work: Path
    small: Path  # bundle of nano
    small_checkpoint: Path | None = None
    small_export: Path | None = None
    large: Path | None = None  # our bundle of the 2B's shape
    large_checkpoint: Path | None = None
    large_export: Path | None = None
    plain_python: Path | None = None  # an interpreter with a plain `pip install llama-cpp-python`
    quick: bool = False  # a try-out: everything runs, nothing is worth reading

    def few(self, count: int) -> int:
        """So many, or one in a try-out."""
        return 1 if self.quick else count


def measure(plan: Plan, *, only: tuple[str, ...] = (), on_step: Callable[[str], None] = lambda _: None) -> None:
    """Do every step that has no file yet.

    Raises:
        ConfigError: A step that is asked for does not exist.
        EdgeError: A step failed; what was done stays.
    """
    if unknown := set(only) - STEPS.keys():
        raise ConfigError(f"no steps {sorted(unknown)}; there are {', '.join(STEPS)}")
    plan.work.mkdir(parents=True, exist_ok=True)
    for name, step in STEPS.items():
        path = plan.work / f"{name}.json"
        if (only and name not in only) or path.exists() or not _possible(name, plan):
            continue
        on_step(name)
        found = json.dumps(step(plan))  # one line, as verbs print it
        with whole_file(path) as partial:
            partial.write_text(found, encoding="utf-8")


def read_all(work: Path) -> dict[str, Any]:
    """Everything that was measured so far, by step."""
    return {name: json.loads(path.read_text("utf-8")) for name in STEPS if (path := work / f"{name}.json").exists()}


def _possible(name: str, plan: Plan) -> bool:
    if name.startswith("decoder_builds"):
        return plan.large is not None and plan.plain_python is not None
    return plan.large is not None if name.startswith(("large", "tiles")) else True


# --- steps ----------------------------------------------------------------------------------------------


def _latency(request: LatencyRequest) -> Json:
    return run(request, bundle_of(request)).to_json()


def _machine(_: Plan) -> Json:
    return machine_card().to_json()


def _small(plan: Plan) -> Json:
    return _latency(LatencyRequest(plan.small, count=plan.few(200), warmup=plan.few(10)))


def _small_again(plan: Plan) -> Json:
    return _latency(LatencyRequest(plan.small, scenario="repeat", count=plan.few(100), warmup=plan.few(5)))


def _small_peers(plan: Plan) -> Json:
    material = MaterialRequest(
        plan.work / "small-peers", checkpoint=plan.small_checkpoint, bundle=plan.small, export=plan.small_export
    )
    return run_peers(PeersRequest(material, rounds=plan.few(5), count=plan.few(10), warmup=plan.few(3)))


def _small_floor(plan: Plan) -> Json:
    return _floor(plan, plan.small, "small")


def _small_packing(plan: Plan) -> Json:
    return packing(plan.small, rounds=plan.few(3))


def _answer_tokens(plan: Plan) -> Json:
    request = LatencyRequest(synthetic="nano", count=plan.few(30), warmup=plan.few(3))
    return {str(n): _latency(replace(request, answer_tokens=n)) for n in ANSWER_TOKENS}


def _sizes(plan: Plan) -> Json:
    request = LatencyRequest(plan.small, count=plan.few(30), warmup=plan.few(3))
    return {size: _latency(replace(request, size=size)) for size in SIZES}


def _large(plan: Plan) -> Json:
    return _latency(_one_tile(plan, count=plan.few(5)))


def _large_again(plan: Plan) -> Json:
    return _latency(replace(_one_tile(plan, count=plan.few(5)), scenario="repeat"))


def _large_floor(plan: Plan) -> Json:
    assert plan.large is not None
    return _floor(plan, plan.large, "large", size=ONE_TILE, max_tiles=1)


def _large_packing(plan: Plan) -> Json:
    assert plan.large is not None
    return packing(plan.large, rounds=1)


def _large_peers(plan: Plan) -> Json:
    material = MaterialRequest(
        plan.work / "large-peers", checkpoint=plan.large_checkpoint, bundle=plan.large, export=plan.large_export
    )
    width, height = (int(number) for number in ONE_TILE.split("x"))
    return run_peers(PeersRequest(material, rounds=plan.few(3), count=1, warmup=1, width=width, height=height))


def _tiles(plan: Plan) -> Json:
    request = replace(_one_tile(plan, count=1), size="640x480")
    return {str(n): _latency(replace(request, max_tiles=n)) for n in (TILES[:1] if plan.quick else TILES)}


def _decoder_builds(plan: Plan) -> Json:
    assert plan.large is not None
    assert plan.plain_python is not None
    return decoder_speed(plan.large, plan.plain_python, rows=PROMPT_ROWS, tokens=ANSWER, rounds=plan.few(3))


def _one_tile(plan: Plan, *, count: int) -> LatencyRequest:
    """Answers of a fixed length: random weights never stop by themselves."""
    return LatencyRequest(
        plan.large, count=count, warmup=1, size=ONE_TILE, max_tiles=1, grammar=False, answer_tokens=ANSWER
    )


def _floor(plan: Plan, bundle: Path, measured: str, *, size: str = "640x480", max_tiles: int | None = None) -> Json:
    """The floor of each stage beside the measurement of the step before."""
    report = plan.work / f"{measured}.json"
    return make_roofline(RooflineRequest(LatencyRequest(bundle, size=size, max_tiles=max_tiles), measured=report))


def _steps() -> Iterator[tuple[str, Step]]:
    """In the order of the page; a floor comes after what it is held against."""
    yield "machine", _machine
    yield "small", _small
    yield "small_again", _small_again
    yield "small_peers", _small_peers
    yield "small_floor", _small_floor
    yield "small_packing", _small_packing
    yield "answer_tokens", _answer_tokens
    yield "sizes", _sizes
    yield "large", _large
    yield "large_again", _large_again
    yield "large_floor", _large_floor
    yield "large_packing", _large_packing
    yield "decoder_builds", _decoder_builds
    yield "large_peers", _large_peers
    yield "tiles", _tiles


STEPS: Final[Mapping[str, Step]] = dict(_steps())
