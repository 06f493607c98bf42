"""Whom a benchmark asks: a bundle through the robot's own pipeline, a server, or a baseline that knows nothing.

A subject answers one sample at a time and says of itself what must be equal for its answers to share a file.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np

from bench.answers import Answered
from bench.datasets import Dataset
from bench.samples import BenchSample
from edge_runtime.bundle import default_bundle, manifest_sha256
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.parse import parse_points
from edge_runtime.pipeline import Pipeline
from edge_runtime.records import Answer, RelativeDepth, View

Modality = Literal["rgb", "rgbd"]
Baseline = Literal["centre", "blank", "random-object"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
BASELINES: tuple[Baseline, ...] = get_args(Baseline)

GREY = 128


class Subject(Protocol):
    """Whatever answers a benchmark's questions."""

    @property
    def model_id(self) -> str:
        """Its name in answer lines."""

    @property
    def about(self) -> Mapping[str, Any]:
        """Kind, name, modality and settings: what decides its answers, as JSON."""

    def answer(self, sample: BenchSample) -> Answered:
        """Answer one question."""


@dataclass(frozen=True)
class SubjectChoice:
    """Whom to ask, as the command line says it: a bundle, a server or a baseline; else the default bundle."""

    bundle: Path | None = None
    url: str | None = None
    baseline: str | None = None
    modality: str | None = None
    model_name: str | None = None  # of a server's model
    max_tiles: int | None = None
    grammar: bool = True
    seed: int = 0
    threads: int | None = None
    timeout_s: float = 120.0  # of one answer of a server


@contextmanager
def open_subject(choice: SubjectChoice, dataset: Dataset) -> Iterator[Subject]:
    """Open whoever was chosen.

    Raises:
        ConfigError: The choice contradicts itself, or does not fit the dataset.
        BundleError: The bundle is not whole.
    """
    _check(choice)
    if choice.url is not None:
        from bench.server_subject import ServerSubject

        yield ServerSubject(
            choice.url,
            model_name=choice.model_name,
            with_depth=server_modality(choice.modality, choice.model_name) == "rgbd",
            timeout_s=choice.timeout_s,
        )
    elif choice.baseline == "centre":
        yield CentreSubject()
    elif choice.baseline == "random-object":
        yield RandomObjectSubject(dataset.samples, choice.seed)
    else:
        path = choice.bundle or default_bundle()
        with Pipeline.open(path, max_tiles=choice.max_tiles, n_threads=choice.threads) as pipeline:
            takes_depth = pipeline.bundle.manifest.image.depth is not None
            modality = bundle_modality(choice.modality, takes_depth=takes_depth, has_depth=dataset.has_depth)
            yield PipelineSubject(
                pipeline,
                modality=modality,
                max_tiles=choice.max_tiles,
                grammar=choice.grammar,
                blank=choice.baseline == "blank",
            )


def bundle_modality(asked: str | None, *, takes_depth: bool, has_depth: bool) -> Modality:
    """RGB-D where bundle and dataset both have depth, unless something else is asked for.

    Raises:
        ConfigError: RGB-D is asked for and one of them has none.
    """
    if asked == "rgbd" and not takes_depth:
        raise ConfigError("this model has no depth input; ask with --modality rgb")
    if asked == "rgbd" and not has_depth:
        raise ConfigError(
            "not every question of this dataset has depth; put a depth map of the same name into depth/ beside image/, "
            "or ask with --modality rgb"
        )
    if asked is not None:
        return "rgbd" if asked == "rgbd" else "rgb"
    return "rgbd" if takes_depth and has_depth else "rgb"


def server_modality(asked: str | None, model_name: str | None) -> Modality:
    """Upstream's rule: a model whose name contains "Depth" is asked with depth."""
    if asked is not None:
        return "rgbd" if asked == "rgbd" else "rgb"
    return "rgbd" if "Depth" in (model_name or "") else "rgb"


def _check(choice: SubjectChoice) -> None:
    if choice.modality is not None and choice.modality not in MODALITIES:
        raise ConfigError(f"--modality {choice.modality} is unknown; choose {' or '.join(MODALITIES)}")
    if choice.baseline is not None and choice.baseline not in BASELINES:
        raise ConfigError(f"--baseline {choice.baseline} is unknown; choose one of {', '.join(BASELINES)}")
    if choice.url is not None and (choice.bundle is not None or choice.baseline is not None):
        raise ConfigError("--url asks a server: leave out --bundle and --baseline")
    if choice.bundle is not None and choice.baseline in ("centre", "random-object"):
        raise ConfigError(f"--baseline {choice.baseline} asks no bundle: leave out --bundle")


class PipelineSubject:
    """A bundle on this machine, asked as the robot asks it.

    Args:
        pipeline: Open; the caller closes it.
        modality: With depth or without.
        max_tiles: The tile budget it was opened with; None: the manifest's.
        grammar: Make malformed coordinates impossible.
        blank: Hide the picture: a uniform grey and depth without relief. What is left are habits of the model.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        modality: Modality,
        max_tiles: int | None = None,
        grammar: bool = True,
        blank: bool = False,
    ) -> None:
        self._pipeline = pipeline
        self._modality = modality
        self._max_tiles = max_tiles
        self._grammar = grammar
        self._blank = blank

    @property
    def model_id(self) -> str:
        """The bundle's name."""
        return self._pipeline.bundle.manifest.name

    @property
    def about(self) -> Mapping[str, Any]:
        """The bundle, by name and hash, and how it is asked."""
        return {
            "kind": "baseline" if self._blank else "bundle",
            "name": f"blank:{self.model_id}" if self._blank else self.model_id,
            "modality": self._modality,
            "settings": {
                "manifest_sha256": manifest_sha256(self._pipeline.bundle.path),
                "max_tiles": self._max_tiles or self._pipeline.bundle.manifest.image.max_tiles,
                "grammar": self._grammar,
            },
        }

    def answer(self, sample: BenchSample) -> Answered:
        """Ask the pipeline.

        Raises:
            DataError: A picture cannot be read.
            InferenceError: Native code failed.
        """
        view = sample.view(with_depth=self._modality == "rgbd")
        if self._blank:
            view = blanked(view)
        answer = self._pipeline.refer([view], sample.instruction, raw_prompt=True, grammar=self._grammar)
        return answered(answer)


def answered(answer: Answer) -> Answered:
    """The pipeline's answer as a benchmark keeps it."""
    valid, reason = answer.valid, answer.reason
    if answer.kind == "text":  # a dataset with a suffix of its own: the text is read all the same
        parsed = parse_points(answer.answer)
        valid, reason = parsed.valid, parsed.reason
    return Answered(
        text=answer.answer,
        points=tuple(point.norm for point in answer.points),
        confidence=max((point.confidence for point in answer.points), default=None),
        valid=valid,
        reason=reason,
        timings_ms=answer.timings_ms,
        tokens={"prompt": answer.prompt_tokens, "generated": answer.generated_tokens},
    )


def blanked(view: View) -> View:
    """A view of the same size that shows nothing."""
    depth = RelativeDepth(np.zeros_like(view.rgb)) if view.depth is not None else None
    return replace(view, rgb=np.full_like(view.rgb, GREY), depth=depth)


class CentreSubject:
    """Always points at the middle of the picture."""

    model_id = "baseline-centre"
    about: Mapping[str, Any] = {"kind": "baseline", "name": "centre", "modality": "rgb", "settings": {}}

    def answer(self, sample: BenchSample) -> Answered:  # noqa: ARG002 - the same whatever is asked
        """The middle."""
        return _pointing((0.5, 0.5))


class RandomObjectSubject:
    """Points at some object of the picture, whatever is asked.

    Args:
        samples: All that will be asked; each names its objects in the field `objects`, a list of [x, y] norms.
        seed: Equal seeds give equal answers, whatever order questions come in.

    Raises:
        ConfigError: A question does not name the objects of its picture.
    """

    model_id = "baseline-random-object"

    def __init__(self, samples: Sequence[BenchSample], seed: int) -> None:
        for sample in samples:
            _objects_of(sample)
        self._seed = seed

    @property
    def about(self) -> Mapping[str, Any]:
        """Its seed."""
        return {"kind": "baseline", "name": "random-object", "modality": "rgb", "settings": {"seed": self._seed}}

    def answer(self, sample: BenchSample) -> Answered:
        """One of the objects."""
        drawn = random.Random(f"{self._seed}/{sample.split}/{sample.id}")
        return _pointing(drawn.choice(_objects_of(sample)))


def _objects_of(sample: BenchSample) -> list[tuple[float, float]]:
    where = f"question {sample.id} of {sample.split}"
    found = sample.extra.get("objects")
    if not isinstance(found, list) or not found:
        raise ConfigError(
            f"--baseline random-object needs to know where the objects are: {where} has no list `objects` of [x, y] "
            "points. Datasets made by `train simulate` have it; elsewhere use --baseline centre or blank"
        )
    try:
        return [(float(x), float(y)) for x, y in found]
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: `objects` must be a list of [x, y] between 0 and 1, got {found[:2]}") from error


def _pointing(point: tuple[float, float]) -> Answered:
    x, y = (round(v, 3) for v in point)
    return Answered(text=f"[({x:.3f}, {y:.3f})]", points=((x, y),), valid=True)
