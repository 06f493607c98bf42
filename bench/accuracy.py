"""`bench accuracy`: ask a subject every question of a dataset, score what it says, and report.

Answers go to OUT/answers.jsonl one by one, so a run that was stopped goes on where it was; the report is made from that
file, and is the same however often the run was stopped.
"""

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from bench.accuracy_report import ScoredAnswer, accuracy_report
from bench.answer_file import AnswerFile
from bench.answers import About, AnswerLine, check_belongs, line_of, read_about, read_answers, unanswered
from bench.datasets import Dataset, open_dataset
from bench.samples import BenchSample, SampleKey
from bench.scorers import AnswerStyle, score
from bench.subjects import Subject, SubjectChoice, open_subject
from edge_runtime.errors import ConfigError
from edge_runtime.terminal import progress
from hardware.storage import whole_file

ANSWERS = "answers.jsonl"
REPORT = "report.json"
STYLES: tuple[AnswerStyle, ...] = get_args(AnswerStyle)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AccuracyRequest:
    """Which questions, whom to ask, and where results go."""

    data: Path
    subject: SubjectChoice = field(default_factory=SubjectChoice)
    answers: Path | None = None  # score this file and ask nobody
    splits: tuple[str, ...] = ()
    limit: int | None = None  # questions per split
    seed: int = 0
    style: AnswerStyle = "tuples"
    by: tuple[str, ...] = ()
    absent_threshold: float = 0.5
    out: Path | None = None


def style_named(name: str) -> AnswerStyle:
    """The style of that name.

    Raises:
        ConfigError: There is none.
    """
    for style in STYLES:
        if style == name:
            return style
    raise ConfigError(f"--style {name} is unknown; choose {' or '.join(STYLES)}")


def measure(request: AccuracyRequest) -> dict[str, Any]:
    """Ask, score and report; the object of docs/schema/bench_accuracy.json.

    Raises:
        ConfigError: The request contradicts itself, the dataset, or the answers that are already in OUT.
        DataError: The dataset or a file of answers is wrong.
        NoValidAnswer: A server stopped answering.
        EdgeError: Anything else of the bundle or this machine.
    """
    _check(request)
    dataset = open_dataset(request.data, splits=request.splits, limit=request.limit, seed=request.seed)
    identity = {"name": dataset.name, "hash": dataset.hash}
    if request.answers is not None:
        answers, subject = _existing(request.answers, dataset)
    else:
        answers, subject = _asked(request, dataset, identity)
    scored = score_answers(dataset.samples, answers, request.style)
    report = accuracy_report(
        scored, subject=subject, dataset=identity, by=request.by, absent_threshold=request.absent_threshold
    )
    if request.out is not None:
        write_report(request.out / REPORT, report)
    return report


def ask_all(subject: Subject, samples: Sequence[BenchSample], file: AnswerFile) -> None:
    """Put to a subject every question that the file has no answer to."""
    remaining = unanswered(samples, file.answers)
    if len(remaining) < len(samples):
        _log.warning("%d of %d questions are answered already", len(samples) - len(remaining), len(samples))
    for sample in progress(remaining, what="questions"):
        file.append(line_of(sample, subject.answer(sample), subject.model_id))


def score_answers(
    samples: Sequence[BenchSample], answers: Mapping[SampleKey, AnswerLine], style: AnswerStyle = "tuples"
) -> list[ScoredAnswer]:
    """Every question with its answer and score; masks are read one by one.

    Raises:
        DataError: A mask cannot be read.
    """
    return [
        ScoredAnswer(sample, answers[sample.key], score(answers[sample.key], sample.mask_pixels(), style))
        for sample in progress(samples, what="scoring")
    ]


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a report, whole or not at all.

    Raises:
        StorageError: Disk full or not writable.
    """
    with whole_file(path) as partial:
        partial.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _asked(
    request: AccuracyRequest, dataset: Dataset, identity: Mapping[str, str]
) -> tuple[Mapping[SampleKey, AnswerLine], Mapping[str, Any]]:
    with ExitStack() as stack:
        folder = request.out or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subject = stack.enter_context(open_subject(request.subject, dataset))
        file = stack.enter_context(AnswerFile(folder / ANSWERS, About(identity, subject.about)))
        check_belongs(dataset.samples, file.answers, str(file.path), whole=False)
        ask_all(subject, dataset.samples, file)
        return file.answers, subject.about


def _existing(path: Path, dataset: Dataset) -> tuple[Mapping[SampleKey, AnswerLine], Mapping[str, Any]]:
    only = next(iter(dataset.splits)) if len(dataset.splits) == 1 else ""
    answers = read_answers(path, split=only)
    check_belongs(dataset.samples, answers, str(path))
    about = read_about(path)
    if about is None:
        model_id = answers[dataset.samples[0].key].model_id or path.stem
        return answers, {"kind": "answers", "name": model_id, "modality": "unknown", "settings": {"file": path.name}}
    if about.dataset.get("hash") != dataset.hash:
        _log.warning("%s was answered on other files than %s: same questions, other bytes", path, dataset.path)
    return answers, about.subject


def _check(request: AccuracyRequest) -> None:
    subject = request.subject
    if request.answers is not None and (subject.bundle or subject.url or subject.baseline or subject.modality):
        raise ConfigError("--answers scores a file and asks nobody: leave out --bundle, --url, --baseline, --modality")
