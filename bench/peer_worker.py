"""One peer in a process of its own: loads, warms up, answers, leaves.

Run as `python -m bench.peer_worker REQUEST`, a JSON object. Every peer gets the same pictures and questions, writes
exactly as many tokens as it is told and never stops before; so what differs is how it computes.

Lines: {"event": "opened"}, then {"event": "asked"} per answer after the warm-up, then {"event": "done"}.
"""

import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bench.scenarios import Scene, questions
from bench.worker import ended, tell
from edge_runtime.errors import ConfigError
from edge_runtime.grammar import COORDINATE, POINT
from edge_runtime.metrics import StageTimer
from edge_runtime.pipeline import Pipeline
from edge_runtime.preprocess import preprocess_depth, preprocess_rgb
from edge_runtime.prompt import POINT_SUFFIX, ask_for_points, parts_of
from edge_runtime.records import F32, DepthPart, ImagePart, Part, Prompt, View

# Pictures and questions for warming up, which nobody is measured on.
_WARMUP_FROM = 100_000

# Points without end, so that the grammar never stops before the last token that is asked for.
_ENDLESS_POINTS = f'root ::= "[" point (", " point)*\n{POINT}\n{COORDINATE}\n'


@dataclass(frozen=True)
class PeerRequest:
    """What one process is to do."""

    peer: str  # a name in `PEERS`
    path: str  # absolute: a bundle, or a checkpoint
    first: int  # number of the first picture and question
    count: int
    warmup: int
    width: int
    height: int
    depth: bool
    answer_tokens: int
    seed: int = 0
    n_threads: int | None = None
    device: str = "cpu"  # of torch

    def to_json(self) -> str:
        """As the command line takes it."""
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str) -> "PeerRequest":
        """Read it back."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Told:
    """What a peer says of one answer."""

    timings_ms: Mapping[str, float]
    prompt_tokens: int
    generated_tokens: int


Answerer = Callable[[View, str], Told]


def work(request: PeerRequest) -> None:
    """Answer the questions and write a line for each.

    Raises:
        EdgeError: The peer cannot be loaded or run.
    """
    scene = Scene(request.width, request.height, seed=request.seed, depth=request.depth)
    with PEERS[request.peer](request) as answer:
        tell("opened")
        for number in (*range(_WARMUP_FROM, _WARMUP_FROM + request.warmup), *_measured(request)):
            view, text = scene.view(number), question(request.seed, number)
            started = time.perf_counter()
            told = answer(view, text)
            total_ms = (time.perf_counter() - started) * 1e3
            if number < _WARMUP_FROM:
                tell("asked", **asdict(told), total_ms=total_ms)
    tell("done")


def question(seed: int, number: int) -> str:
    """The question of that number."""
    return next(itertools.islice(questions(seed), number % 1000, None))


def _measured(request: PeerRequest) -> range:
    return range(request.first, request.first + request.count)


# --- the peers ------------------------------------------------------------------------------------------


@contextmanager
def _ours(request: PeerRequest) -> Iterator[Answerer]:
    """A bundle through the robot's pipeline, every token decoded."""
    with _pipeline(request) as pipeline:
        pipeline.decoder.drafts = False

        def answer(view: View, text: str) -> Told:
            found = pipeline.refer([view], text, grammar=False, max_tokens=request.answer_tokens)
            return Told(found.timings_ms, found.prompt_tokens, found.generated_tokens)

        yield answer


@contextmanager
def _ours_forced(request: PeerRequest) -> Iterator[Answerer]:
    """The same as the robot runs it: a list of points, whose brackets and commas are read along with the digits."""
    with _pipeline(request) as pipeline:

        def answer(view: View, text: str) -> Told:
            timer = StageTimer()
            parts = _parts(pipeline, view, text)
            with timer.stage("preprocess"):
                images, depths = pipeline.tiles(parts)
            blocks = pipeline.encoded(images, depths, timer)
            return _written(request, pipeline, pipeline.prompt(parts, images, depths), blocks, timer, _ENDLESS_POINTS)

        yield answer


@contextmanager
def _plain(request: PeerRequest) -> Iterator[Answerer]:
    """One stage after the other, all processors for each, nothing kept: what a script around the libraries does."""
    with _pipeline(replace(request, n_threads=request.n_threads or len(os.sched_getaffinity(0)))) as pipeline:
        pipeline.decoder.drafts, pipeline.decoder.joins = False, False
        image, depth_spec = pipeline.bundle.manifest.image, pipeline.bundle.manifest.depth

        def answer(view: View, text: str) -> Told:
            timer = StageTimer()
            parts = _parts(pipeline, view, text)
            with timer.stage("preprocess"):
                images = [preprocess_rgb(p.rgb, image) for p in parts if isinstance(p, ImagePart)]
                depths = [preprocess_depth(p.depth, image, depth_spec) for p in parts if isinstance(p, DepthPart)]
            with timer.stage("rgb_encoder"):
                image_blocks = pipeline.encoders.encode("image", images)
            with timer.stage("depth_encoder"):
                depth_blocks = pipeline.encoders.encode("depth", depths)
            prompt = pipeline.prompt(parts, images, depths)
            return _written(request, pipeline, prompt, (image_blocks, depth_blocks), timer)

        yield answer


def _parts(pipeline: Pipeline, view: View, text: str) -> list[Part]:
    manifest = pipeline.bundle.manifest
    seen = view if manifest.image.depth is not None else replace(view, depth=None)
    return parts_of([seen], ask_for_points(text, manifest.prompt))


def _written(
    request: PeerRequest,
    pipeline: Pipeline,
    prompt: Prompt,
    blocks: tuple[Sequence[F32], Sequence[F32]],
    timer: StageTimer,
    grammar: str | None = None,
) -> Told:
    """The decoder's part, with exactly as many tokens as asked."""
    segments = pipeline.decoder_segments(prompt, *blocks)
    written = pipeline.decoder.generate(segments, max_tokens=request.answer_tokens, grammar=grammar)
    timer.add("prefill", written.prefill_ms)
    timer.add("decode", written.decode_ms)
    return Told(timer.timings_ms(), written.prompt_tokens, len(written.token_ids))


@contextmanager
def _pipeline(request: PeerRequest) -> Iterator[Pipeline]:
    with Pipeline.open(Path(request.path), n_threads=request.n_threads) as pipeline:
        pipeline.decoder.stop_ids = ()  # no answer is shorter than another
        yield pipeline


@contextmanager
def _torch(request: PeerRequest) -> Iterator[Answerer]:
    """A checkpoint through torch and transformers."""
    if request.n_threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(request.n_threads)  # torch looks when it is loaded
    try:
        from bench.reference import TorchSubject
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed here: pip install 'roborefer-edge[train]'") from error
    precision: Any = request.peer.removeprefix("transformers-")
    device: Any = request.device
    subject = TorchSubject.open(Path(request.path), device=device, precision=precision)

    def answer(view: View, text: str) -> Told:
        timer = StageTimer()
        seen = view if subject.takes_depth else replace(view, depth=None)
        asked = f"{text} {POINT_SUFFIX}"
        (written,) = subject.answer(seen, [asked], max_tokens=request.answer_tokens, stop=False, timer=timer)
        return Told(timer.timings_ms(), written.prompt_tokens, len(written.token_ids))

    yield answer


PEERS: Mapping[str, Callable[[PeerRequest], Any]] = {
    "ours": _ours,
    "ours-forced": _ours_forced,
    "plain": _plain,
    "transformers-bf16": _torch,
    "transformers-nf4": _torch,
}


def main(arguments: Sequence[str]) -> int:
    """Do the request of the command line; the exit status is that of the error, its message the last words."""
    return ended(lambda: work(PeerRequest.of_json(arguments[0])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
