"""Answers as JSON lines with upstream's fields and ours: the records, and reading them.

Beside `answers.jsonl` lies `answers.about.json`, which says what was asked of whom. It is a file of its own so that
every line of the first one is an answer, as upstream's scripts expect.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.samples import BenchSample, SampleKey
from edge_runtime.errors import ConfigError, DataError

ABOUT_SUFFIX = ".about.json"


@dataclass(frozen=True)
class Answered:
    """What a subject answered to one question."""

    text: str  # as the model wrote it
    points: tuple[tuple[float, float], ...] | None = None  # norm; None: the subject does not read its own text
    confidence: float | None = None  # of the surest point, [0, 1]; None: not known
    valid: bool | None = None  # what the robot thinks of the answer; None: it was not asked
    reason: str | None = None  # why it is not valid
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)  # prompt, generated


@dataclass(frozen=True)
class AnswerLine:
    """One line: upstream's fields in upstream's order, then ours."""

    question_id: int | str
    prompt: str
    object_name: str
    suffix: str
    instruction: str
    text: str
    model_id: str
    rgb_path: str
    mask_path: str
    category: str = ""
    step: int | None = None
    split: str = ""  # empty in a file of upstream's
    kind: str | None = None
    points: tuple[tuple[float, float], ...] | None = None
    confidence: float | None = None
    valid: bool | None = None
    reason: str | None = None
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> SampleKey:
        """Which question it answers."""
        return self.split, str(self.question_id)

    def to_json(self) -> dict[str, Any]:
        """The object on its line."""
        rounded = {stage: round(ms, 3) for stage, ms in self.timings_ms.items()}
        return {**asdict(self), "timings_ms": rounded}


@dataclass(frozen=True)
class About:
    """What was asked of whom; answers of two different ones never share a file."""

    dataset: Mapping[str, str]  # name, hash
    subject: Mapping[str, Any]  # kind, name, modality, settings

    def differences(self, other: "About") -> list[str]:
        """What keeps answers apart, in words; a dataset's name may change, its content may not."""
        keys = sorted({*self.subject, *other.subject})
        pairs = [(f"subject {key}", self.subject.get(key), other.subject.get(key)) for key in keys]
        pairs.append(("dataset hash", self.dataset.get("hash"), other.dataset.get("hash")))
        return [f"{what}: {was!r} there, {now!r} asked" for what, was, now in pairs if was != now]


def line_of(sample: BenchSample, answered: Answered, model_id: str) -> AnswerLine:
    """The line for an answer to a question."""
    return AnswerLine(
        question_id=sample.id,
        prompt=sample.prompt,
        object_name=sample.object,
        suffix=sample.suffix,
        instruction=sample.instruction,
        text=answered.text,
        model_id=model_id,
        rgb_path=sample.rgb_path,
        mask_path=sample.mask_path,
        category=sample.category,
        step=sample.step,
        split=sample.split,
        kind=sample.kind,
        points=answered.points,
        confidence=answered.confidence,
        valid=answered.valid,
        reason=answered.reason,
        timings_ms=dict(answered.timings_ms),
        tokens=dict(answered.tokens),
    )


def read_answers(path: Path, *, split: str = "") -> dict[SampleKey, AnswerLine]:
    """The answers in a file, by question.

    Args:
        path: JSON lines; ours, or upstream's, which know no split.
        split: Of lines that name none.

    Raises:
        DataError: Not such a file, or a question is answered twice.
        ConfigError: Lines name no split and none was given.
    """
    found: dict[SampleKey, AnswerLine] = {}
    for number, raw in enumerate(_lines(path), 1):
        line = _parsed(raw, split, f"{path}, line {number}")
        if not line.split:
            raise ConfigError(f"{path} does not say which split its answers are of: name it with --split")
        if line.key in found:
            raise DataError(f"{path}, line {number}: question {line.question_id} of {line.split} is answered twice")
        found[line.key] = line
    return found


def read_about(path: Path) -> About | None:
    """What is known about the answers in a file; None if nothing was written beside it.

    Raises:
        DataError: What was written there is damaged.
    """
    beside = about_path(path)
    if not beside.is_file():
        return None
    try:
        found = json.loads(beside.read_text(encoding="utf-8"))
        return About(dataset=dict(found["dataset"]), subject=dict(found["subject"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{beside} cannot be read ({error!r}); remove it and {path.name} and start again") from error


def about_path(path: Path) -> Path:
    """Where it is said what the answers in `path` are about."""
    return path.with_name(path.stem + ABOUT_SUFFIX)


def _lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error})") from error
    return (line for line in text.split("\n") if line.strip())


def _parsed(raw: str, split: str, where: str) -> AnswerLine:
    try:
        entry = json.loads(raw)
        points = entry.get("points")
        return AnswerLine(
            question_id=entry["question_id"],
            prompt=str(entry.get("prompt", "")),
            object_name=str(entry.get("object_name", "")),
            suffix=str(entry.get("suffix", "")),
            instruction=str(entry.get("instruction", "")),
            text="" if entry["text"] is None else str(entry["text"]),
            model_id=str(entry.get("model_id", "")),
            rgb_path=str(entry.get("rgb_path", "")),
            mask_path=str(entry.get("mask_path", "")),
            category=str(entry.get("category", "")),
            step=entry.get("step"),
            split=str(entry.get("split") or split),
            kind=entry.get("kind"),
            points=None if points is None else tuple((float(x), float(y)) for x, y in points),
            confidence=entry.get("confidence"),
            valid=entry.get("valid"),
            reason=entry.get("reason"),
            timings_ms=dict(entry.get("timings_ms") or {}),
            tokens=dict(entry.get("tokens") or {}),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{where} is not an answer ({error!r})") from error


def unanswered(samples: Sequence[BenchSample], answers: Mapping[SampleKey, AnswerLine]) -> list[BenchSample]:
    """The questions that have no answer yet."""
    return [sample for sample in samples if sample.key not in answers]


def check_belongs(
    samples: Sequence[BenchSample], answers: Mapping[SampleKey, AnswerLine], where: str, *, whole: bool = True
) -> None:
    """Refuse answers that were given to other questions.

    Args:
        samples: The questions.
        answers: By question.
        where: Where they are from, for messages.
        whole: Every question must be answered.

    Raises:
        DataError: A question is not answered, or the answer is to a question of another wording.
    """
    missing = unanswered(samples, answers)
    if whole and missing:
        shown = ", ".join(f"{sample.split}/{sample.id}" for sample in missing[:5])
        raise DataError(
            f"{where} has no answer to {len(missing)} of {len(samples)} questions ({shown}"
            f"{' ...' if len(missing) > 5 else ''}): finish that run, or choose with --split and --limit what it has"
        )
    for sample in samples:
        line = answers.get(sample.key)
        if line is not None and line.prompt and line.prompt != sample.prompt:
            raise DataError(
                f"{where} answers another dataset: question {sample.id} of {sample.split} is {line.prompt!r} there "
                f"and {sample.prompt!r} here"
            )
