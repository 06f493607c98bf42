"""The child process of edge_runtime/tune.py: measures candidates of one stage and tells each result as a line of JSON.

`python -m edge_runtime.tune_trial BUNDLE STAGE REQUEST`. It may crash: the last line tells on which candidate.

| stage | times of a run |
|---|---|
| `encoders` | `encode` |
| `decoder` | `prefill`, `decode`, of made-up rows: their values do not change the time |
| `answers` | none; golden cases are compared instead: `share` of the tolerance, and `flips` |
| `compare` | `total` and each stage of a whole question, in blocks that open the bundle as a robot does |
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_runtime.bundle import DECODER, GOLDEN, Bundle, open_bundle
from edge_runtime.decoder import DEFAULT_UBATCH, Decoder
from edge_runtime.encoders import Encoders, available_providers
from edge_runtime.errors import ConfigError, EdgeError
from edge_runtime.golden import read_golden
from edge_runtime.golden_run import doubtful_margin, run_case
from edge_runtime.lanes import Lanes
from edge_runtime.native_check import decoder_verdict
from edge_runtime.pipeline import Pipeline
from edge_runtime.preprocess import preprocess_depth, preprocess_rgb, with_max_tiles
from edge_runtime.providers import CPU, fallbacks
from edge_runtime.records import DecoderSegment, EmbedSegment, MetricDepth, TokenSegment, View
from edge_runtime.tune_search import rounds
from edge_runtime.tuning import Tuning

MOST_TILES: Final = 3  # of the picture that is asked about: time grows in proportion, and three minutes are short
INSTRUCTION: Final = "the red box"
ANSWER_TOKENS: Final = 14  # one point
TEXT_TOKENS: Final = 60  # of a prompt around its pictures

_MOST_ROUNDS = 7
_OPENED_ROUNDS = 3  # where a round opens networks again
_MOST_REPEATS = 10  # within a round
_WIDTH, _HEIGHT = 640, 480

Tell = Callable[..., None]


def view() -> View:
    """A camera's picture with its depth: a ramp with a box on it, and noise."""
    random = np.random.default_rng(0)
    rgb = random.integers(90, 120, (_HEIGHT, _WIDTH, 3)).astype(np.uint8)
    depth_m = np.repeat(np.linspace(1.6, 0.7, _HEIGHT, dtype=np.float32)[:, None], _WIDTH, axis=1)
    rgb[200:300, 250:350], depth_m[200:300, 250:350] = (200, 60, 40), 0.6
    return View(rgb, MetricDepth(depth_m))


def tile_budget(bundle: Bundle) -> int | None:
    """Few tiles, or the manifest's own number where the mode needs more."""
    try:
        with_max_tiles(bundle.manifest.image, min(MOST_TILES, bundle.manifest.image.max_tiles))
    except ConfigError:
        return None
    return min(MOST_TILES, bundle.manifest.image.max_tiles)


def prompt_rows(bundle: Bundle) -> int:
    """Rows of a question's prompt about as many tiles as are asked for."""
    pictures = 1 if bundle.manifest.image.depth is None else 2
    tiles = (tile_budget(bundle) or bundle.manifest.image.max_tiles) if bundle.manifest.image.mode != "resize" else 1
    return TEXT_TOKENS + pictures * tiles * bundle.manifest.dims.tokens_per_tile


# --- the stages -----------------------------------------------------------------------------------------


def encoders(bundle: Bundle, candidates: Sequence[Tuning], budget_s: float, tell: Tell) -> None:
    """Encode one picture with its depth; each candidate is opened anew, because sessions keep their threads."""
    spec = with_max_tiles(bundle.manifest.image, tile_budget(bundle))
    picture = view()
    rgb = [preprocess_rgb(picture.rgb, spec)]
    depth = [preprocess_depth(picture.depth, spec, bundle.manifest.depth)] if spec.depth and picture.depth else []
    for index in rounds(len(candidates), time.monotonic, budget_s, most=_OPENED_ROUNDS):
        tell("try", index)
        lanes_kept = closing(Lanes(side_by_side=candidates[index].side_by_side))
        with lanes_kept as lanes, _encoders(bundle, candidates[index]) as opened:

            def run(lanes: Lanes = lanes, opened: Encoders = opened) -> None:
                lanes.both(lambda: opened.encode("image", rgb), lambda: opened.encode("depth", depth))

            run()
            for _ in _for_s(budget_s / len(candidates) / _OPENED_ROUNDS):
                tell("took", index, encode=_taken_ms(run))


def decoder(bundle: Bundle, candidates: Sequence[Tuning], budget_s: float, tell: Tell) -> None:
    """Read a made-up prompt and write an answer; the model is loaded once, contexts are made for each candidate."""
    path = bundle.file(DECODER)
    stops = bundle.manifest.tokens.stop
    use_extra_bufts = decoder_verdict(path).use_extra_bufts
    random = np.random.default_rng(0)
    dims = bundle.manifest.dims
    rows = min(prompt_rows(bundle), dims.context_tokens - 2 * ANSWER_TOKENS)
    embeds = random.normal(scale=0.02, size=(max(1, rows - TEXT_TOKENS), dims.decoder_width)).astype(np.float32)
    text = random.integers(0, dims.vocab_size, min(TEXT_TOKENS, rows)).astype(np.int32)
    segments: list[DecoderSegment] = [TokenSegment(text[:4]), EmbedSegment(embeds), TokenSegment(text[4:])]
    with Decoder.open(path, stop_ids=stops, use_extra_bufts=use_extra_bufts) as opened:
        opened.stop_ids, opened.drafts = (), False  # an answer of a fixed number of steps
        usual = opened.settings
        for index in rounds(len(candidates), time.monotonic, budget_s, most=_MOST_ROUNDS):
            tell("try", index)
            tuning = candidates[index]
            opened.use(
                replace(
                    usual,
                    n_threads=tuning.decode_threads or usual.n_threads,
                    n_prefill_threads=tuning.prefill_threads or usual.n_prefill_threads,
                    n_ubatch=tuning.ubatch or DEFAULT_UBATCH,
                    kv_type=tuning.kv_type or "f16",
                )
            )
            try:
                opened.generate(segments, max_tokens=2)  # makes the context
                written = opened.generate(segments, max_tokens=ANSWER_TOKENS)
            except EdgeError as error:
                tell("failed", index, reason=str(error))
                continue
            tell(
                "took",
                index,
                prefill=written.prefill_ms,
                decode=written.decode_ms,
                both=written.prefill_ms + written.decode_ms,
            )


def answers(bundle: Bundle, candidates: Sequence[Tuning], budget_s: float, tell: Tell) -> None:
    """Compare golden cases, every stage as `check` does; the worst share of a tolerance, and changed tokens."""
    del budget_s  # an answer is compared whole or not at all
    cases = read_golden(bundle.file(GOLDEN))
    for index, tuning in enumerate(candidates):
        tell("try", index)
        try:
            with _pipeline(bundle, tuning, max_tiles=None) as pipeline:
                results = [run_case(pipeline, c, doubtful_margin=doubtful_margin(bundle, c)) for c in cases]
        except EdgeError as error:
            tell("failed", index, reason=str(error))
            continue
        shares = [_share(bundle, stage, error) for r in results for stage, error in r.errors.items()]
        tell("answers", index, share=max(shares), flips=sum(len(r.flips) for r in results))


def compare(bundle: Bundle, candidates: Sequence[Tuning], budget_s: float, tell: Tell) -> None:
    """Whole questions, candidates in turn; each block opens the bundle, so that memory is needed for one alone."""
    asked = view()
    for index in rounds(len(candidates), time.monotonic, budget_s, most=_MOST_ROUNDS):
        tell("try", index)
        with _pipeline(bundle, candidates[index], max_tiles=tile_budget(bundle)) as pipeline:
            pipeline.refer([asked], INSTRUCTION)
            for _ in _for_s(budget_s / len(candidates) / _OPENED_ROUNDS):
                tell("took", index, **pipeline.refer([asked], INSTRUCTION).timings_ms)


STAGES: Final[Mapping[str, Callable[[Bundle, Sequence[Tuning], float, Tell], None]]] = {
    "encoders": encoders,
    "decoder": decoder,
    "answers": answers,
    "compare": compare,
}


# --- what they share ------------------------------------------------------------------------------------


def _encoders(bundle: Bundle, tuning: Tuning) -> Encoders:
    chain = fallbacks(tuning.provider or CPU, available_providers())
    return Encoders.open(bundle, providers=chain, n_threads=tuning.encoder_threads, falls_back=False)


def _pipeline(bundle: Bundle, tuning: Tuning, *, max_tiles: int | None) -> Pipeline:
    chain = fallbacks(tuning.provider or CPU, available_providers())
    return Pipeline.of_bundle(bundle, max_tiles=max_tiles, providers=chain, tuning=tuning)


def _share(bundle: Bundle, stage: str, error: float) -> float:
    tolerance = bundle.manifest.tolerances.get(stage)
    return min(tolerance.share(error), 1e9) if tolerance else 0.0  # JSON has no infinity


def _for_s(limit_s: float) -> Iterator[None]:
    """At least once, then until the time is spent."""
    end_s = time.monotonic() + limit_s
    yield
    for _ in range(_MOST_REPEATS - 1):
        if time.monotonic() >= end_s:
            return
        yield


def _taken_ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1e3


def main(arguments: Sequence[str]) -> int:
    """Do one stage; the exit status is that of the error."""
    request: dict[str, Any] = json.loads(arguments[2])

    def tell(event: str, candidate: int, **values: Any) -> None:
        sys.stdout.write(json.dumps({"event": event, "candidate": candidate, **values}) + "\n")
        sys.stdout.flush()

    try:
        candidates = [Tuning(**table) for table in request["candidates"]]
        STAGES[arguments[1]](open_bundle(Path(arguments[0])), candidates, request["budget_s"], tell)
    except EdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
