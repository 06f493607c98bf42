"""Numbers as a reader sees them: shares in per cent, differences in points, a dash for what is not known."""

from collections.abc import Mapping, Sequence
from typing import Any

NOT_KNOWN = "–"


def percent(share: float | None) -> str:
    """A share as per cent with one decimal."""
    return NOT_KNOWN if share is None else f"{100 * share:.1f}"


def percent_span(share: float | None, interval: Sequence[float] | None) -> str:
    """A share with its interval."""
    if share is None or interval is None:
        return percent(share)
    return f"{percent(share)} ({percent(interval[0])} to {percent(interval[1])})"


def points(difference: float) -> str:
    """A difference of shares, in points with its sign."""
    return f"{100 * difference:+.1f}"


def points_span(difference: Mapping[str, float]) -> str:
    """A difference with its interval."""
    return f"{points(difference['value'])} ({points(difference['low'])} to {points(difference['high'])})"


def number(value: float | None, digits: int = 0, unit: str = "") -> str:
    """A number with so many decimals; thousands are set apart."""
    return NOT_KNOWN if value is None else f"{value:,.{digits}f}{unit}"


def ms(value: float | None) -> str:
    """Milliseconds: one decimal where that says something."""
    return number(value, 1 if value is not None and value < 100 else 0)


def mib(n_bytes: float) -> str:
    """Bytes as MiB."""
    return number(n_bytes / 2**20, 1 if n_bytes < 100 * 2**20 else 0)


def unique(labels: Sequence[str], otherwise: Sequence[str]) -> list[str]:
    """The labels; those that occur twice with something behind that tells them apart."""
    return [
        label if labels.count(label) == 1 else f"{label}, {other}"
        for label, other in zip(labels, otherwise, strict=True)
    ]


def settings_words(settings: Mapping[str, Any]) -> str:
    """Whatever decided a subject's answers, on one line; hashes are shortened."""
    return "; ".join(f"{name.replace('_', ' ')}: {_setting(name, value)}" for name, value in settings.items())


def _setting(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{part} {version}" for part, version in value.items())
    return str(value)[:12] if name.endswith("sha256") else str(value)
