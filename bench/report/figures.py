"""Curves and bars as SVG that goes into a page: scaled by the page, ids its own, every word real text.

Figures are drawn for a column of about 420 px, so that a phone shows them almost as large as they were drawn and a
wide screen shows two side by side. Colours are those of Okabe and Ito, told apart by every kind of colour vision; no
figure says anything by colour alone that its table does not say in words.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#AA4499", "#56B4E9", "#E69F00", "#333333",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, BLACK)
MARKS = ("o", "s", "^", "D", "v", "P", "X")
WIDTH_IN = 4.4
_ROW_IN = 0.3
_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",  # words stay words
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": BLACK,
    "xtick.color": BLACK,
    "ytick.color": BLACK,
    "text.color": BLACK,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
_LONGEST_LABEL = 26
_IDS = re.compile(r'\b(id="|href="#|url\(#)')


@dataclass(frozen=True)
class Interval:
    """A number with the ends of its interval; the ends are None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def arms(self) -> tuple[float, float]:
        """How far it reaches below and above the value."""
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        return max(0.0, self.value - low), max(0.0, high - self.value)


@dataclass(frozen=True)
class Line:
    """Points that belong together; `notes` stand beside them."""

    name: str
    x: Sequence[float]
    y: Sequence[Interval]
    notes: Sequence[str] = ()


def dots(
    name: str,
    rows: Mapping[str, Mapping[str, Interval]],
    *,
    x_label: str,
    same_at: float | None = None,
    log: bool = False,
) -> str:
    """A row for each subject, in it a dot with its interval for each group.

    Args:
        name: Unique within a page.
        rows: Subject -> group -> number.
        x_label: What the numbers are, with unit.
        same_at: Where a line marks "no difference".
        log: Ratios; the axis is logarithmic.
    """
    groups = list(dict.fromkeys(group for row in rows.values() for group in row))
    step = 0.7 / max(1, len(groups))
    with _drawn(name, 0.9 + _ROW_IN * len(rows) * max(1.0, 0.5 * len(groups))) as (figure, svg):
        axes = figure.add_subplot()
        for number, group in enumerate(groups):
            told = [(y, row[group]) for y, row in enumerate(rows.values()) if group in row]
            axes.errorbar(
                [found.value for _, found in told],
                [y + (number - (len(groups) - 1) / 2) * step for y, _ in told],
                xerr=np.array([found.arms for _, found in told]).T,
                fmt=MARKS[number % len(MARKS)],
                color=COLOURS[number % len(COLOURS)],
                markersize=4.5,
                linewidth=1.4,
                label=group,
            )
        if same_at is not None:
            axes.axvline(same_at, color="#888888", linewidth=1, linestyle="--", zorder=0)
        if log:
            _log_axis(axes)
        _name_rows(axes, list(rows))
        axes.set_xlabel(x_label)
        if len(groups) > 1:
            _legend_above(figure, axes, len(groups))
    return svg()


def stacked(name: str, rows: Mapping[str, Mapping[str, float]], *, parts: Sequence[str], x_label: str) -> str:
    """A bar for each row, cut into parts that add up; a part has the same colour wherever `parts` are the same."""
    with _drawn(name, 1.2 + _ROW_IN * len(rows) * 1.2) as (figure, svg):
        axes = figure.add_subplot()
        left = np.zeros(len(rows))
        for number, part in enumerate(parts):
            widths = np.array([row.get(part, 0.0) for row in rows.values()])
            if not widths.any():
                continue
            axes.barh(range(len(rows)), widths, 0.6, left=left, color=COLOURS[number % len(COLOURS)], label=part)
            left += widths
        for y, total in enumerate(left):
            axes.text(total, y, f" {_short(total)}", va="center", fontsize=8.5)
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        _name_rows(axes, list(rows))
        axes.set_xlabel(x_label)
        _legend_above(figure, axes, len(parts))
    return svg()


def bars(name: str, rows: Mapping[str, Mapping[str, float]], *, x_label: str) -> str:
    """A group of bars for each row, one beside the other, each with its number."""
    parts = list(dict.fromkeys(part for row in rows.values() for part in row))
    height = 0.8 / max(1, len(parts))
    with _drawn(name, 1.0 + _ROW_IN * len(rows) * max(1.0, 0.75 * len(parts))) as (figure, svg):
        axes = figure.add_subplot()
        for number, part in enumerate(parts):
            told = [(y, row[part]) for y, row in enumerate(rows.values()) if part in row]
            places = [y + (number - (len(parts) - 1) / 2) * height for y, _ in told]
            widths = [width for _, width in told]
            axes.barh(places, widths, height * 0.9, color=COLOURS[number % len(COLOURS)], label=part)
            for place, width in zip(places, widths, strict=True):
                axes.text(width, place, f" {_short(width)}", va="center", fontsize=8.5)
        axes.margins(x=0.15)
        _name_rows(axes, list(rows))
        axes.set_xlabel(x_label)
        if len(parts) > 1:
            _legend_above(figure, axes, len(parts))
    return svg()


def shares_below(name: str, rows: Mapping[str, Sequence[float]], *, x_label: str) -> str:
    """For each row of numbers, which share of them lies at or below x."""
    with _drawn(name, 3.0) as (figure, svg):
        axes = figure.add_subplot()
        for number, (row, values) in enumerate(rows.items()):
            ordered = np.sort(np.asarray(values, np.float64))
            shares = 100 * np.arange(1, len(ordered) + 1) / len(ordered)
            colour = COLOURS[number % len(COLOURS)]
            axes.step(np.append(ordered[0], ordered), np.append(0, shares), where="post", color=colour, label=row)
        for share in (50, 95):
            axes.axhline(share, color="#aaaaaa", linewidth=0.8, linestyle=":")
        axes.set_ylim(0, 102)
        axes.set_xlabel(x_label)
        axes.set_ylabel("answers at or below, %")
        axes.grid(axis="x")
        _legend_above(figure, axes, 2)
    return svg()


def lines(
    name: str, curves: Sequence[Line], *, x_label: str, y_label: str, steps: bool = False, log_x: bool = False
) -> str:
    """Curves with intervals; `steps`: what holds at a point holds up to the next."""
    with _drawn(name, 3.2) as (figure, svg):
        axes = figure.add_subplot()
        for number, curve in enumerate(curves):
            colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
            values = [found.value for found in curve.y]
            if steps:
                axes.plot(curve.x, values, color=colour, drawstyle="steps-pre", label=curve.name)
                highs = [found.value if found.high is None else found.high for found in curve.y]
                axes.fill_between(curve.x, values, highs, step="pre", color=colour, alpha=0.15, linewidth=0)
            else:
                arms = np.array([found.arms for found in curve.y]).T
                axes.errorbar(curve.x, values, yerr=arms, color=colour, marker=mark, markersize=5, label=curve.name)
            for x, y, note in zip(curve.x, values, curve.notes, strict=False):
                axes.annotate(
                    note, (x, y), xytext=(5, -11), textcoords="offset points", fontsize=8.5, color=colour,
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
                )  # fmt: skip
        axes.margins(0.08)
        if log_x:
            _log_axis(axes)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if steps else None)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid()
        _legend_above(figure, axes, 2)
    return svg()


# --- drawing --------------------------------------------------------------------------------------------


@contextmanager
def _drawn(name: str, height_in: float) -> Iterator[tuple[Figure, Callable[[], str]]]:
    """A figure in our style, and what gives its SVG once it is drawn."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that matplotlib's own font lacks: the browser has them
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        made: list[str] = []
        yield figure, lambda: made[0]
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        made.append(_for_a_page(file.getvalue(), name))


def _for_a_page(svg: str, name: str) -> str:
    """The `svg` element alone, as wide as its place, with ids no other figure of the page has."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r'(<svg[^>]*?)\swidth="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?)\sheight="[^"]*"', r"\1", body, count=1)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    return _IDS.sub(lambda found: f"{found[1]}{name}-", body)


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    """Names left of the rows, the first one at the top."""
    axes.set_yticks(range(len(names)), [_broken(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)


def _legend_above(figure: Figure, axes: Any, entries: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, [_broken(label) for label in labels], loc="outside upper center", ncols=min(3, entries))


def _broken(label: str) -> str:
    """A long name on two lines at a comma or space near its middle; what is longer still is cut."""
    if len(label) <= _LONGEST_LABEL:
        return label
    places = [i for i, c in enumerate(label) if c == " " and i <= _LONGEST_LABEL]
    cut = min(places, key=lambda i: abs(i - len(label) / 2), default=_LONGEST_LABEL)
    first, second = label[:cut], label[cut:].strip()
    return f"{first}\n{second if len(second) <= _LONGEST_LABEL else second[: _LONGEST_LABEL - 1] + '…'}"


def _log_axis(axes: Any) -> None:
    """A logarithmic x axis whose ticks say 0.5, 2 and 1000, not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    decades = np.log10(high / low)
    subs = (1.0,) if decades > 2.5 else (1.0, 2.0, 5.0) if decades > 0.9 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
