"""One entry of a RefSpatial training file (LLaVA's JSON), checked field by field.

    {"id": ..., "image": str | [str], "depth": str | [str], "conversations": [{"from": "human" | "gpt", "value": str}]}

Media tokens in what the human says are dropped: the robot's own prompt stage puts them back in their place, so that
training and robot cannot drift. Source: roborefer.md section 7.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from edge_runtime.parse import parse_points
from edge_runtime.prompt import MEDIA_LITERALS
from train.data.errors import SampleMalformed
from train.spatial.formats import TrainingSample, Turn

# What a malformed sample is counted under, and what it means.
FAULTS: Mapping[str, str] = {
    "not_json": "its text is no JSON, or holds half a letter",
    "cut_off": "the file ends inside it",
    "no_object": "it is no JSON object",
    "no_picture": "it names no picture",
    "picture_path": "a picture lies outside the data set's folder",
    "depth_count": "as many depth maps as pictures, or none, are needed",
    "no_turns": "nobody says anything",
    "roles": "human and gpt do not alternate",
    "no_text": "somebody says nothing",
    "no_point": "points are asked for and the answer has none",
    "point_outside": "a point of the answer lies outside the picture",
}

# How every wording of the request for coordinates that we know of puts it.
POINT_REQUEST = "formatted as a list of tuples"

_MEDIA = re.compile("|".join(map(re.escape, MEDIA_LITERALS)))
_KEY_BYTES = 8


def parse_entry(entry: object, *, position: int) -> TrainingSample:
    """One entry as a sample.

    Args:
        entry: As the JSON parser gave it.
        position: In the file; names a sample without an id.

    Raises:
        SampleMalformed: It cannot be trained on.
    """
    if not isinstance(entry, dict):
        raise SampleMalformed("no_object", f"found {type(entry).__name__}")
    images = _names(entry, "image")
    if not images:
        raise SampleMalformed("no_picture", f"it has the fields {sorted(map(str, entry))[:8]}")
    depths = _names(entry, "depth")
    if len(depths) not in (0, len(images)):
        raise SampleMalformed("depth_count", f"{len(images)} pictures and {len(depths)} depth maps")
    turns = _turns(entry.get("conversations"))
    for turn in turns:
        _check_points(turn)
    _check_letters([*images, *depths, *(text for turn in turns for text in (turn.asked, turn.answered))])
    return TrainingSample(id_of(entry, position), images, depths, turns)


def id_of(entry: object, position: int) -> str:
    """The name of a sample, whatever else is wrong with it."""
    found = entry.get("id") if isinstance(entry, dict) else None
    if found is None:
        return f"#{position}"
    return str(found).encode(errors="backslashreplace").decode()  # it is printed, and half a letter cannot be


def picture_key(sample: TrainingSample) -> int:
    """64 bits that are equal for samples about the same pictures and, for practical purposes, for no others."""
    names = "\0".join((*sample.images, "", *sample.depths))
    return int.from_bytes(hashlib.blake2b(names.encode(), digest_size=_KEY_BYTES).digest(), "little")


def text_bytes(sample: TrainingSample) -> int:
    """Length of all that is said."""
    return sum(len(turn.asked.encode()) + len(turn.answered.encode()) for turn in sample.turns)


def asks_for_points(asked: str) -> bool:
    """Whether coordinates are wanted as the answer."""
    return POINT_REQUEST in asked


def _names(entry: Mapping[str, Any], field: str) -> tuple[str, ...]:
    value = entry.get(field)
    names = [value] if isinstance(value, str) else value
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise SampleMalformed("no_picture", f"{field} is {_short(value)}, expected a file name or a list of them")
    for name in names:
        if name.startswith("/") or ".." in name.split("/") or "\0" in name:
            raise SampleMalformed(
                "picture_path", f"{field} is {_short(name)}, which is not below the data set's folder"
            )
    return tuple(names)


def _turns(lines: object) -> tuple[Turn, ...]:
    if not isinstance(lines, list) or not lines:
        raise SampleMalformed("no_turns", f"conversations is {_short(lines)}")
    roles = [line.get("from") if isinstance(line, dict) else None for line in lines]
    if roles != ["human", "gpt"] * (len(roles) // 2):
        raise SampleMalformed("roles", f"found {_short(roles)}")
    said = [line.get("value") for line in lines]
    if not all(isinstance(text, str) for text in said):
        raise SampleMalformed("no_text", "a value is no text")
    asked = [_MEDIA.sub("", text).strip() for text in said[::2]]
    answered = [text.strip() for text in said[1::2]]
    if not all(asked) or not all(answered):
        raise SampleMalformed("no_text", "a question or an answer is empty")
    return tuple(Turn(question, answer) for question, answer in zip(asked, answered, strict=True))


def _check_letters(texts: Iterable[str]) -> None:
    r"""JSON can write half of a letter beyond 16 bits (\ud83d alone); no file name, tokenizer or output takes it."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise SampleMalformed("not_json", f"it holds {half!r}, half a letter; the text was cut inside it") from error


def _check_points(turn: Turn) -> None:
    if not asks_for_points(turn.asked):
        return
    parsed = parse_points(turn.answered)
    if parsed.valid:
        return
    fault = "point_outside" if parsed.reason and "outside" in parsed.reason else "no_point"
    raise SampleMalformed(fault, f"{parsed.reason}: {_short(turn.answered)}")


def _short(value: object, letters: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= letters else text[: letters - 1] + "…"
