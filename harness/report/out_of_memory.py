"""The mark of a case that ran out of memory: a cross near the top of the axes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.report.axes import OUT_OF_MEMORY
from harness.report.series import Series

_HEIGHT = 0.96
_STEP = 0.065


def draw_out_of_memory(
    axes: Axes,
    series: Sequence[Series],
    place: Callable[[Series, int], float],
    *,
    labelled: bool = True,
    room_is_made: bool = False,
) -> None:
    """A cross for each such case at `place(series, vocab_size)` on the x axis.

    Marks that share a place are stacked, and the axes grow upwards so that no mark lies among
    the data. Each has the name of its variant beside it or, where its place already tells
    that (`labelled=False`), what happened below it.
    """
    stacked: Counter[float] = Counter()
    marks: list[tuple[Series, float, int]] = []
    for each in series:
        for vocab_size in each.out_of_memory:
            x = place(each, vocab_size)
            marks.append((each, x, stacked[x]))
            stacked[x] += 1
    if marks and not room_is_made:
        make_room(axes, max(stacked.values()) + (0 if labelled else 1))
    for each, x, level in marks:
        _draw_mark(axes, x, _HEIGHT - _STEP * level, each, labelled)
    for each in series:
        if each.out_of_memory:
            axes.plot(
                [],
                [],
                linestyle="none",
                label=f"{each.title}: {OUT_OF_MEMORY}",
                **_cross(each.colour),
            )


def _cross(colour: str) -> dict[str, Any]:
    return {"marker": "x", "color": colour, "markersize": 8, "markeredgewidth": 2.4}


def _draw_mark(axes: Axes, x: float, height: float, series: Series, labelled: bool) -> None:
    transform = axes.get_xaxis_transform()
    axes.add_line(Line2D([x], [height], transform=transform, **_cross(series.colour)))
    axes.annotate(
        series.label if labelled else OUT_OF_MEMORY.replace(" of ", " of\n"),
        (x, height),
        xycoords=transform,
        xytext=(-8, 0) if labelled else (0, -8),
        textcoords="offset points",
        ha="right" if labelled else "center",
        va="center" if labelled else "top",
        fontsize=7.5,
        color=series.colour,
    )


def make_room(axes: Axes, levels: int) -> None:
    """Grows the axes upwards by so many marks, one above the other."""
    taken = 1 - _HEIGHT + _STEP * levels
    low, high = axes.get_ylim()
    if axes.get_yscale() == "log":
        axes.set_ylim(low, low * (high / low) ** (1 / (1 - taken)))
    else:
        axes.set_ylim(low, low + (high - low) / (1 - taken))
