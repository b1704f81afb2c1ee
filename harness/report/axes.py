"""Figures and axes that all plots share: size, log scales with plain labels, legend.

The object API alone: no pyplot, so no global state and no display.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from harness.report.naming import vocabulary_labels

GREY = "#555555"
LOWER_BOUND = "(lower bound)"
YARDSTICK = "(yardstick)"
BOUND_LINE: dict[str, Any] = {"color": GREY, "lw": 1, "ls": (0, (2, 2))}
OUT_OF_MEMORY = "out of memory"
_LEGEND_CHARACTERS = 115
_HANDLE_CHARACTERS = 10
_USUAL_ROWS = 3
_BAR_CHARACTERS = 28
_ROW_INCHES = 0.17
_MOST_TICKS = 6
_MOST_COLUMNS = 3
_PANEL_INCHES = 1.7


def new_figure(title: str, subtitle: str, footnote: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.0, 5.4), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    small_print = [subtitle, *footnote.splitlines()]
    axes.set_title(
        title, loc="left", fontsize=13, fontweight="bold", pad=10 + 12 * len(small_print)
    )
    axes.annotate(
        "\n".join(small_print),
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 7),
        textcoords="offset points",
        fontsize=8.5,
        color=GREY,
    )
    _make_plain(axes)
    return figure, axes


def new_panels(
    title: str,
    subtitle: str,
    footnote: str,
    names: Sequence[str],
    *,
    x_label: str,
    y_label: str,
    panel_inches: float = _PANEL_INCHES,
    shares_x: bool = True,
) -> tuple[Figure, list[Axes]]:
    """A small picture for each name, all on the same axes, or on a horizontal one of its own."""
    columns = min(_MOST_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    small_print = [subtitle, *footnote.splitlines()]
    head_inches = 0.45 + 0.16 * len(small_print)
    height = head_inches + 0.9 + panel_inches * rows
    figure = Figure(figsize=(10.0, height), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - head_inches / height))
    top = 1 - 0.1 / height
    figure.text(0.01, top, title, fontsize=13, fontweight="bold", va="top")
    figure.text(
        0.01, top - 0.27 / height, "\n".join(small_print), fontsize=8.5, color=GREY, va="top"
    )
    grid = figure.subplots(rows, columns, sharex=shares_x, sharey=True, squeeze=False).flatten()
    panels, empty = list(grid[: len(names)]), grid[len(names) :]
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(name, loc="left", fontsize=9.5)
        _make_plain(axes)
    for axes in panels[-columns:]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel(x_label)
    figure.supylabel(y_label, fontsize=10)
    for axes in empty:
        axes.set_axis_off()
    return figure, panels


def _make_plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)


def save(figure: Figure, path: Path) -> None:
    # No software version in the file: the same records give the same bytes.
    figure.savefig(path, metadata={"Software": None})


def add_legend(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend below the axes, where it covers no data; a long one makes the figure higher."""
    if not handles:
        return
    # Results first, then what they are held against, then what has no result.
    ranked = sorted(handles, key=lambda handle: _legend_rank(str(handle.get_label())))
    columns = _legend_columns([str(handle.get_label()) for handle in ranked])
    figure.legend(
        handles=ranked,
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=8.5,
        handlelength=3.2,
    )
    rows = math.ceil(len(ranked) / columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + _ROW_INCHES * max(rows - _USUAL_ROWS, 0))


def _legend_columns(labels: Sequence[str]) -> int:
    """Up to three, as many as fit beside each other: a wider legend would be cut off."""
    for columns in range(min(3, math.ceil(len(labels) / 2)), 1, -1):
        rows = math.ceil(len(labels) / columns)
        widths = [max(map(len, labels[at : at + rows])) for at in range(0, len(labels), rows)]
        if sum(widths) + columns * _HANDLE_CHARACTERS <= _LEGEND_CHARACTERS:
            return columns
    return 1


def _legend_rank(label: str) -> int:
    return (
        2 if label.endswith(OUT_OF_MEMORY) else 1 if label.endswith((LOWER_BOUND, YARDSTICK)) else 0
    )


def name_bars(axes: Axes, titles: Sequence[str]) -> None:
    """Beside bars that lie one below the other, from the top; long names in several lines."""
    axes.set_ylim(len(titles) - 0.4, -0.6)
    axes.set_yticks(range(len(titles)), [textwrap.fill(title, _BAR_CHARACTERS) for title in titles])
    axes.grid(False, axis="y")


def vocabulary_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """A log2 axis with a tick at each vocabulary that was measured."""
    labels, unit = vocabulary_labels(sizes)
    axes.set_xscale("log", base=2)
    margin = 2 ** (0.08 * max(math.log2(sizes[-1] / sizes[0]), 1))
    axes.set_xlim(sizes[0] / margin, sizes[-1] * margin)
    # A label every 7 % of the axis at most; nearer ones would run into each other.
    gap = 0.07 * math.log2(sizes[-1] * margin**2 / sizes[0])
    shown: list[int] = []
    for index, size in enumerate(sizes):
        if not shown or math.log2(size / sizes[shown[-1]]) >= gap:
            shown.append(index)
    _set_ticks(axes.xaxis, [sizes[i] for i in shown], [labels[i] for i in shown])
    note = f" ({unit})" if unit else ""
    axes.set_xlabel(f"vocabulary size V, log scale{note}")


def linear_axis(
    axis: Axis, text: Callable[[float], str], base: int, most_ticks: int = _MOST_TICKS
) -> None:
    """Ticks from zero on a linear scale; those of bytes (base 2) are round in every unit.

    Multiples of a power of two are: 256 MiB, 1.25 GiB; of a power of ten they would not be.
    """
    _, top = axis.get_view_interval()
    if base == 2:
        step = 2 ** max(math.ceil(math.log2(top / most_ticks)), 0)
        ticks = [float(tick) for tick in range(0, math.floor(top) + 1, step)]
    else:
        found = MaxNLocator(nbins=most_ticks, steps=[1, 2, 5, 10]).tick_values(0, top)
        ticks = [tick for tick in found if 0 <= tick <= top]
    _set_ticks(axis, ticks, [text(tick) if tick else "0" for tick in ticks])


def log_axis(axis: Axis, values: Sequence[float], text: Callable[[float], str], base: int) -> None:
    """A log scale around `values`, with ticks that read as sizes or times."""
    low, high = min(values), max(values)
    # Never less than a factor of two in all, or small differences would look large.
    room = max((high / low) ** 0.07, math.sqrt(2 * low / high), 1.08)
    low, high = low / room, high * room
    if axis is axis.axes.xaxis:
        axis.axes.set_xscale("log", base=base)
        axis.axes.set_xlim(low, high)
    else:
        axis.axes.set_yscale("log", base=base)
        axis.axes.set_ylim(low, high)
    ticks = log_ticks(low, high, base)
    _set_ticks(axis, ticks, [text(tick) for tick in ticks])


def log_ticks(low: float, high: float, base: int) -> list[float]:
    """Round values in [low, high]: powers, and steps between them where powers are few."""
    if base == 2:
        steps: tuple[tuple[float, ...], ...] = (
            (1,),
            (1, 1.5),
            (1, 1.25, 1.5, 1.75),
            tuple(1 + part / 16 for part in range(16)),
        )
    else:
        steps = (
            (1,),
            (1, 2, 5),
            (1, 1.5, 2, 3, 4, 5, 6, 8),
            (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
            tuple(1 + part / 10 for part in range(90)),
        )
    powers = range(math.floor(math.log(low, base)), math.ceil(math.log(high, base)) + 1)
    ticks: list[float] = []
    for mantissas in steps:
        every = [mantissa * float(base) ** power for power in powers for mantissa in mantissas]
        ticks = [tick for tick in every if low <= tick <= high]
        if len(ticks) >= 4:
            break
    return ticks[:: math.ceil(len(ticks) / 8)] if ticks else [math.sqrt(low * high)]


def _set_ticks(axis: Axis, ticks: Sequence[float], labels: Sequence[str]) -> None:
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FixedFormatter(list(labels)))
    axis.set_minor_locator(NullLocator())
