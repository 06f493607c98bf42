"""`bench reference`: the torch model's answers to a dataset, as the same lines that a bundle's answers are.

Recorded once on a workstation, carried to the robot as a file, compared there without torch. Questions about one
picture are asked together; what is timed is then each question's share. This module loads no torch before the model is
opened.
"""

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from bench.accuracy import ANSWERS, REPORT, score_answers, write_report
from bench.accuracy_report import accuracy_report
from bench.answer_file import AnswerFile
from bench.answers import About, Answered, AnswerLine, check_belongs, line_of, unanswered
from bench.datasets import Dataset, open_dataset
from bench.samples import BenchSample, SampleKey
from bench.subjects import MODALITIES, Modality, bundle_modality
from edge_runtime.confidence import span_confidence
from edge_runtime.errors import ConfigError
from edge_runtime.metrics import StageTimer
from edge_runtime.parse import parse_points
from edge_runtime.records import Generation
from edge_runtime.terminal import progress

if TYPE_CHECKING:
    from bench.reference import TorchSubject

QUESTIONS_AT_ONCE = 16


@dataclass(frozen=True)
class ReferenceRequest:
    """Which model, how it runs, what it is asked, and where its answers go."""

    checkpoint: Path
    data: Path
    out: Path
    device: str = "cpu"
    precision: str = "fp32"
    questions_at_once: int = QUESTIONS_AT_ONCE  # about one picture
    modality: str | None = None
    splits: tuple[str, ...] = ()
    limit: int | None = None  # questions per split
    seed: int = 0


def run_reference(request: ReferenceRequest) -> dict[str, Any]:
    """Ask, score and report; the object of docs/schema/bench_reference.json.

    Answers go to OUT/answers.jsonl one by one; a run that was stopped goes on where it was.

    Raises:
        ConfigError: torch or bitsandbytes is missing, or the request contradicts itself or the answers in OUT.
        CheckpointError: The checkpoint cannot be read.
        DataError: The dataset is wrong.
        DeviceError: There is no such device.
    """
    started = time.monotonic()
    dataset = open_dataset(request.data, splits=request.splits, limit=request.limit, seed=request.seed)
    identity = {"name": dataset.name, "hash": dataset.hash}
    subject = _opened(request)
    modality = _modality(request.modality, subject, dataset)
    about = About(identity, _about(request, subject, modality))
    with AnswerFile(request.out / ANSWERS, about) as file:
        check_belongs(dataset.samples, file.answers, str(file.path), whole=False)
        remaining = {sample.key for sample in unanswered(dataset.samples, file.answers)}
        for line in ask_pictures(subject, dataset.samples, modality, request.questions_at_once, remaining):
            file.append(line)
        answers = {sample.key: file.answers[sample.key] for sample in dataset.samples}
    report = accuracy_report(score_answers(dataset.samples, answers), subject=about.subject, dataset=identity)
    write_report(request.out / REPORT, report)
    return {
        "kind": "bench_reference",
        "answers": str(request.out / ANSWERS),
        "report": str(request.out / REPORT),
        "n": len(answers),
        "answered_now": len(remaining),
        "duration_s": round(time.monotonic() - started, 3),
        "timings_ms": _timings(answers.values()),
        "splits": {name: {"n": split["n"], "accuracy": split["accuracy"]} for name, split in report["splits"].items()},
        **{key: report[key] for key in ("mean", "mean_upstream", "subject", "dataset")},
    }


def ask_pictures(
    subject: "TorchSubject",
    samples: Sequence[BenchSample],
    modality: Modality,
    questions_at_once: int,
    wanted: Collection[SampleKey],
) -> Iterator[AnswerLine]:
    """Ask picture by picture.

    Args:
        subject: The model.
        samples: All questions.
        modality: With depth or without.
        questions_at_once: Most questions about one picture that are answered side by side.
        wanted: Those whose answers are missing. The same questions always go together, answered already or not: an
            interrupted run computes in the same order as a whole one, and so rounds alike.

    Yields:
        A line for each wanted question.

    Raises:
        DataError: A picture cannot be read.
        InstructionError: A prompt does not fit the context.
    """
    groups = list(_by_picture(samples, questions_at_once))
    for some in progress([g for g in groups if any(s.key in wanted for s in g)], what="pictures"):
        timer = StageTimer()
        with timer.stage("preprocess"):
            view = some[0].view(with_depth=modality == "rgbd")
        written = subject.answer(view, [sample.instruction for sample in some], timer=timer)
        share_ms = {stage: ms / len(some) for stage, ms in timer.timings_ms().items()}
        for sample, generation in zip(some, written, strict=True):
            if sample.key in wanted:
                yield line_of(sample, read_generation(generation, share_ms), subject.name)


def read_generation(generation: Generation, timings_ms: Mapping[str, float]) -> Answered:
    """An answer as the robot would read it."""
    parsed = parse_points(generation.text, complete=generation.stopped)
    confidences = [span_confidence(generation, point.span) for point in parsed.points]
    return Answered(
        text=generation.text.strip(),
        points=tuple((point.x, point.y) for point in parsed.points),
        confidence=max(confidences, default=None),
        valid=parsed.valid,
        reason=parsed.reason,
        timings_ms=timings_ms,
        tokens={"prompt": generation.prompt_tokens, "generated": len(generation.token_ids)},
    )


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """The report as a person reads it."""
    settings, timings = report["subject"]["settings"], report["timings_ms"]
    lines = [
        f"{report['subject']['name']} ({report['subject']['modality']}, {settings['precision']} on "
        f"{settings['device_name']}) on {report['dataset']['name']}",
        *(f"{name:<14}{split['n']:>6}{100 * split['accuracy']:>10.1f} %" for name, split in report["splits"].items()),
    ]
    if report["mean"] is not None:
        lines.append(f"{'mean':<20}{100 * report['mean']:>10.1f} %")
    if "total" in timings:
        at_once = settings["questions_at_once"]
        together = f", up to {at_once} questions of a picture together" if at_once > 1 else ""
        lines.append(f"{timings['total']['p50']:.0f} ms a question (median{together})")
    lines.append(f"{report['answered_now']} of {report['n']} answered in this run: {report['answers']}")
    return lines


# --- the model --------------------------------------------------------------------------------------------


def _opened(request: ReferenceRequest) -> "TorchSubject":
    try:
        from bench.reference import Device, Precision, TorchSubject
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"bench reference needs {error.name}, which is not installed here; run it on the workstation: "
            "pip install 'roborefer-edge[train]'"
        ) from error
    for what, value, known in (
        ("device", request.device, get_args(Device)),
        ("precision", request.precision, get_args(Precision)),
    ):
        if value not in known:
            raise ConfigError(f"--{what} {value} is unknown; choose {', '.join(known)}")
    device: Device = "cuda" if request.device == "cuda" else "cpu"
    precision: Precision = next(p for p in get_args(Precision) if p == request.precision)
    return TorchSubject.open(request.checkpoint, device=device, precision=precision)


def _modality(asked: str | None, subject: "TorchSubject", dataset: Dataset) -> Modality:
    if asked is not None and asked not in MODALITIES:
        raise ConfigError(f"--modality {asked} is unknown; choose {' or '.join(MODALITIES)}")
    return bundle_modality(asked, takes_depth=subject.takes_depth, has_depth=dataset.has_depth)


def _about(request: ReferenceRequest, subject: "TorchSubject", modality: Modality) -> dict[str, Any]:
    return {
        "kind": "reference",
        "name": subject.name,
        "modality": modality,
        "settings": {
            "checkpoint_sha256": subject.checkpoint.source_hash,
            "device": subject.device,
            "device_name": subject.device_name(),
            "precision": subject.precision,
            "questions_at_once": request.questions_at_once,
            "versions": subject.versions(),
        },
    }


def _by_picture(samples: Iterable[BenchSample], at_once: int) -> Iterator[list[BenchSample]]:
    """Questions about the same picture and depth, so many at once at most."""
    groups: dict[tuple[str, Path | None], list[BenchSample]] = defaultdict(list)
    for sample in samples:
        groups[sample.image.name, sample.depth].append(sample)
    for some in groups.values():
        for start in range(0, len(some), at_once):
            yield some[start : start + at_once]


def _timings(lines: Iterable[AnswerLine]) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of each stage."""
    per_stage: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        for stage, ms in line.timings_ms.items():
            per_stage[stage].append(ms)
    found = {stage: np.percentile(ms, [50, 95]) for stage, ms in per_stage.items()}
    return {stage: {"p50": round(float(p50), 3), "p95": round(float(p95), 3)} for stage, (p50, p95) in found.items()}
