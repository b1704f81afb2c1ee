"""A quantity at a single vocabulary: bars by variant, side by side by framework."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from harness.report.axes import BOUND_LINE, LOWER_BOUND, YARDSTICK, linear_axis
from harness.report.out_of_memory import draw_out_of_memory
from harness.report.quantity import Quantity, bounds
from harness.report.series import Series

_GROUP_WIDTH = 0.8
_MOST_LEVEL_VALUES = 16
_MOST_LEVEL_CHARACTERS = 80


def draw_bars(axes: Axes, quantity: Quantity, series: Sequence[Series], vocab_size: int) -> None:
    """Bars on a linear axis from zero; the floor, which is no loss, is a dotted line."""
    barred = [each for each in series if each.variant != "floor" and _has(quantity, each)]
    labels = list(dict.fromkeys(each.label for each in barred))
    frameworks = sorted({each.framework for each in barred})
    width = min(_GROUP_WIDTH / max(len(frameworks), 1), 0.36)

    def centre(each: Series, _: int = vocab_size) -> float:
        offset = frameworks.index(each.framework) - (len(frameworks) - 1) / 2
        return labels.index(each.label) + offset * width

    upright = len(labels) * len(frameworks) > _MOST_LEVEL_VALUES
    values = [
        _draw_bar(axes, quantity, each, vocab_size, centre(each), width, upright) for each in barred
    ]
    for each in series:
        if each.variant == "floor":
            values.append(_draw_floor(axes, quantity, each, vocab_size))
    bound = bounds(quantity, series).get(vocab_size)
    if bound:
        label = f"{quantity.bound_label} {LOWER_BOUND}"
        axes.axhline(bound, label=label, **BOUND_LINE)
    axes.set_xlim(-0.6, max(len(labels), 1) - 0.4)
    axes.set_ylim(0, max([*values, bound or 0.0]) * (1.22 if upright else 1.1))
    _name_variants(axes, labels)
    axes.set_xlabel(f"vocabulary size V = {vocab_size:,}")
    axes.grid(False, axis="x")
    linear_axis(axes.yaxis, quantity.text, quantity.base)
    draw_out_of_memory(axes, barred, centre, labelled=False)


def _name_variants(axes: Axes, labels: Sequence[str]) -> None:
    level = [label.replace(" ", "\n") for label in labels]
    longest = max((len(line) for label in level for line in label.splitlines()), default=0)
    if longest * len(labels) <= _MOST_LEVEL_CHARACTERS:
        axes.set_xticks(range(len(labels)), level)
    else:
        axes.set_xticks(
            range(len(labels)),
            labels,
            rotation=30,
            horizontalalignment="right",
            rotation_mode="anchor",
            fontsize=8,
        )


def _has(quantity: Quantity, series: Series) -> bool:
    return bool(series.out_of_memory) or any(map(quantity.shows, series.results))


def _draw_bar(
    axes: Axes,
    quantity: Quantity,
    series: Series,
    vocab_size: int,
    x: float,
    width: float,
    upright: bool,
) -> float:
    """The value above the bar stands upright where level ones would run into each other."""
    record = series.at(vocab_size)
    value = quantity.value(record) if record is not None else None
    if value is None:
        return 0.0
    # The first bar of each framework names its colour; the variants stand on the x axis.
    known = axes.get_legend_handles_labels()[1]
    name = series.framework_title
    axes.bar(
        x,
        value.median,
        width * 0.94,
        color=series.colour,
        alpha=0.85,
        yerr=[[value.median - value.low], [value.high - value.median]] if value.varies else None,
        ecolor="#222222",
        capsize=4,
        label=f"_{name}" if name in known else name,
    )
    axes.annotate(
        quantity.text(value.median),
        (x, value.high),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize=7 if upright else 8,
        rotation=90 if upright else 0,
    )
    return value.high


def _draw_floor(axes: Axes, quantity: Quantity, series: Series, vocab_size: int) -> float:
    record = series.at(vocab_size)
    value = quantity.value(record) if record is not None else None
    if value is None:
        return 0.0
    axes.axhline(
        value.median,
        color=series.colour,
        linestyle=series.style.line,
        linewidth=1.8,
        label=f"{series.title}, {quantity.text(value.median)} {YARDSTICK}",
    )
    return value.median
