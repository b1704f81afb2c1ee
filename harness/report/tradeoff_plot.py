"""Step time against memory beyond the inputs: what a variant pays and what it saves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from harness.report.axes import GREY, OUT_OF_MEMORY, log_axis
from harness.report.formats import duration, size
from harness.report.measures import Record, memory_bytes, step_time
from harness.report.series import Series

Point = tuple[float, float]


def tradeoff_point(record: Record) -> Point | None:
    """(bytes beyond the inputs, median step seconds), or None where one is not known."""
    memory, time = memory_bytes(record, "additional"), step_time(record)
    if not memory or memory < 0 or time is None or time.median <= 0:
        return None
    return float(memory), time.median


def draw_tradeoff(axes: Axes, series: Sequence[Series]) -> list[Line2D]:
    """Points by framework and variant, with an arrow from standard to each other variant.

    Returns the handles of the legend: colours by framework, markers by variant.
    """
    points = {
        (each, record["vocab_size"]): point
        for each in series
        for record in each.results
        if (point := tradeoff_point(record)) is not None
    }
    log_axis(axes.xaxis, [memory for memory, _ in points.values()], size, 2)
    log_axis(axes.yaxis, [time for _, time in points.values()], duration, 10)
    left, right = axes.get_xlim()
    axes.set_xlim(left, right * (right / left) ** 0.06)  # room for the names of vocabularies
    axes.set_xlabel("memory beyond the inputs, log scale")
    axes.set_ylabel("median step time, log scale")
    for (each, _), point in points.items():
        axes.plot(
            *point, each.style.marker, color=each.colour, markersize=9 - 2 * each.rank, zorder=3
        )
    _draw_arrows(axes, points)
    _name_vocabularies(axes, points, series)
    return _legend(list(dict.fromkeys(each for each, _ in points)))


def _draw_arrows(axes: Axes, points: dict[tuple[Series, int], Point]) -> None:
    standards = {
        (each.framework, vocab_size): point
        for (each, vocab_size), point in points.items()
        if each.variant == "standard"
    }
    for (each, vocab_size), point in points.items():
        start = standards.get((each.framework, vocab_size))
        if each.variant == "standard" or start is None:
            continue
        axes.annotate(
            "",
            xy=point,
            xytext=start,
            arrowprops={
                "arrowstyle": "->",
                "color": each.colour,
                "alpha": 0.55,
                "linewidth": 1.2,
                "shrinkA": 6,
                "shrinkB": 6,
            },
        )


def _name_vocabularies(
    axes: Axes, points: dict[tuple[Series, int], Point], series: Sequence[Series]
) -> None:
    """Each vocabulary is named once a framework, beside the point that uses most memory.

    What ran out of memory there has no place on these axes; the name says so.
    """
    largest: dict[tuple[str, int], tuple[Point, str]] = {}
    for (each, vocab_size), point in points.items():
        key = (each.framework, vocab_size)
        if key not in largest or point[0] > largest[key][0][0]:
            largest[key] = (point, each.colour)
    frameworks = sorted({framework for framework, _ in largest})
    for (framework, vocab_size), (point, colour) in largest.items():
        # On the right, where no arrow goes; a little higher for one framework and lower for
        # the other, as their points often lie together.
        above = frameworks.index(framework) % 2 == 0
        missing = [
            f", {each.label}: {OUT_OF_MEMORY}"
            for each in series
            if each.framework == framework and vocab_size in each.out_of_memory
        ]
        axes.annotate(
            f"V={vocab_size}{''.join(missing)}",
            point,
            xytext=(8, 1 if above else -1),
            textcoords="offset points",
            ha="left",
            va="bottom" if above else "top",
            fontsize=8,
            color=colour,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "alpha": 0.75, "lw": 0},
        )


def _legend(series: Sequence[Series]) -> list[Line2D]:
    frameworks = {each.framework_title: each.colour for each in series}
    variants = {each.label: each.style.marker for each in series}
    return [
        *(
            Line2D([], [], color=colour, linewidth=3, label=title)
            for title, colour in frameworks.items()
        ),
        *(
            Line2D([], [], color=GREY, linestyle="none", marker=marker, markersize=7, label=label)
            for label, marker in variants.items()
        ),
    ]
