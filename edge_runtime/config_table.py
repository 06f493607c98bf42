"""Tables of a TOML file as frozen records: every key known, every value of its type, or nothing at all.

The record is the schema: its field names are the keys, its annotations the types, its defaults what holds where the
file is silent. Everything that is wrong with a file is found in one reading.
"""

import difflib
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Record = TypeVar("Record")

# TOML has no null: what is a number or nothing is switched off by this word.
OFF: Final = "off"
_WRONG: Final = object()
_SHOWN_CHARS = 60
_SAID: Final[dict[type, str]] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def read_record(kind: type[Record], table: Mapping[str, object], *, folder: Path) -> tuple[Record | None, list[str]]:
    """Make a record of a table.

    Args:
        kind: A frozen dataclass whose fields all have defaults: bool, int, float, str, Path, Literal, tuples of these,
            further such dataclasses (tables in the table), and any of them or None.
        table: What the file holds.
        folder: Where relative paths in it begin.

    Returns:
        The record and no problems, or None and everything that is wrong, a line each, naming the key.
    """
    reader = _Reader(folder)
    record = reader.record(kind, table, "")
    return (None, reader.problems) if reader.problems else (record, [])


class _Reader:
    """One reading; collects what is wrong."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.problems: list[str] = []

    def record(self, kind: type[Any], table: Mapping[str, object], at: str) -> Any:
        """The record of a table, or `_WRONG`; `at` is where the table is, such as "camera."."""
        hints = get_type_hints(kind)
        known = [field.name for field in fields(kind)]
        self.problems += [f"unknown key {at + key!r}; {_nearest(key, known)}" for key in table if key not in known]
        values = {key: self._value(hints[key], table[key], at + key) for key in known if key in table}
        if any(value is _WRONG for value in values.values()):
            return _WRONG
        try:
            return kind(**values)
        except ValueError as error:  # a rule between fields, checked by the record itself
            return self._wrong(f"{at.rstrip('.') or 'the file'}: {error}")

    def _value(self, kind: Any, value: object, at: str) -> Any:
        """The value of a key as the record wants it, or `_WRONG`."""
        if is_dataclass(kind) and isinstance(kind, type):
            if isinstance(value, dict):
                return self.record(kind, value, f"{at}.")
            return self._wrong(f"{at} is {_shown(value)}, expected a table: [{at}]")
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            return self._optional(next(arm for arm in get_args(kind) if arm is not type(None)), value, at)
        if origin is tuple:
            return self._list(get_args(kind)[0], value, at)
        if origin is Literal:
            return self._choice(get_args(kind), value, at)
        return self._plain(kind, value, at)

    def _optional(self, kind: Any, value: object, at: str) -> Any:
        if value == OFF and kind in (int, float):
            return None
        return self._value(kind, value, at)

    def _list(self, kind: Any, value: object, at: str) -> Any:
        if not isinstance(value, list):
            return self._wrong(f"{at} is {_shown(value)}, expected a list: {at} = [...]")
        items = [self._value(kind, item, f"{at}[{place}]") for place, item in enumerate(value)]
        return _WRONG if any(item is _WRONG for item in items) else tuple(items)

    def _choice(self, choices: tuple[object, ...], value: object, at: str) -> Any:
        if value in choices:
            return value
        return self._wrong(f"{at} is {_shown(value)}; {_nearest(str(value), [str(choice) for choice in choices])}")

    def _plain(self, kind: type[Any], value: object, at: str) -> Any:
        if kind is float and type(value) is int:
            return float(value)
        if kind is Path and isinstance(value, str) and value.strip():
            return self._folder / value
        if type(value) is not kind:  # not isinstance: true is an int in Python, not in a config
            return self._wrong(f"{at} is {_shown(value)}, expected {_SAID.get(kind, 'a path')}")
        if isinstance(value, float) and not math.isfinite(value):
            return self._wrong(f"{at} is {value}, expected a finite number")
        if isinstance(value, str) and not value.strip():
            return self._wrong(f"{at} is empty; leave the key out to have its default")
        return value

    def _wrong(self, problem: str) -> object:
        self.problems.append(problem)
        return _WRONG


def _nearest(asked: str, known: Iterable[str]) -> str:
    """What was probably meant, and everything there is."""
    known = list(known)
    near = difflib.get_close_matches(asked.lower(), known, n=1, cutoff=0.5)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"{meant}known: {', '.join(known)}"


def _shown(value: object) -> str:
    """A value with its TOML type, cut where it is long."""
    names = {bool: "true or false", int: "the number", float: "the number", str: "the text", list: "the list"}
    text = repr(value)
    short = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
    if isinstance(value, bool):
        return str(value).lower()
    return f"{names.get(type(value), 'the ' + type(value).__name__)} {short}"
