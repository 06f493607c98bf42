"""Questions held in memory and answers to them that hit or miss as told, for tests that need many."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from bench.answers import Answered, AnswerLine, line_of
from bench.pairing import AnswerSet
from bench.samples import BenchSample, Bools

WIDTH, HEIGHT = 80, 40


@dataclass(frozen=True)
class HeldPicture:
    """A picture's file in memory."""

    name: str
    data: bytes

    def read(self) -> bytes:
        return self.data


@cache
def png(left: int, right: int) -> bytes:
    """Columns left to right are white, the others black."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[:, left:right] = 255
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def questions(n: int, *, per_picture: int = 1, split: str = "Location") -> list[BenchSample]:
    """Each asks for another strip of its picture: 20 columns wide, one beside the other."""
    return [
        BenchSample(
            split=split,
            id=i,
            prompt=f"Point at strip {i % per_picture}.",
            suffix="Answer as a list.",
            object="strip",
            rgb_path=f"{i // per_picture}.png",
            mask_path=f"{i}.png",
            image=HeldPicture(f"{split}/{i // per_picture}", png(0, 0)),
            mask=HeldPicture(f"{split}/mask{i}", png(20 * (i % per_picture), 20 * (i % per_picture) + 20)),
        )
        for i in range(n)
    ]


def pointing(sample: BenchSample, *points: tuple[float, float], **changes: Any) -> AnswerLine:
    text = "[" + ", ".join(f"({x:.4f}, {y:.4f})" for x, y in points) + "]"
    answered = Answered(text=text, points=points, valid=True)
    return line_of(sample, replace(answered, **changes), "held")


def answers(name: str, samples: Sequence[BenchSample], answer: Callable[[BenchSample], AnswerLine]) -> AnswerSet:
    return AnswerSet(name=name, answers={sample.key: answer(sample) for sample in samples})


def told(samples: Sequence[BenchSample], hits: Sequence[bool] | Bools, name: str = "told") -> AnswerSet:
    """Hits in the middle of strip 0, or misses at the far right; for one question per picture."""
    by_key = {s.key: bool(hits[i]) for i, s in enumerate(samples)}
    return answers(name, samples, lambda s: pointing(s, (0.125 if by_key[s.key] else 0.95, 0.5)))
