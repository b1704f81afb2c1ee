"""A quantity over several vocabularies: a line for each series, on log axes."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from harness.report.axes import BOUND_LINE, LOWER_BOUND, log_axis, vocabulary_axis
from harness.report.out_of_memory import draw_out_of_memory
from harness.report.quantity import Quantity, bounds
from harness.report.series import Series


def draw_lines(
    axes: Axes, quantity: Quantity, series: Sequence[Series], vocab_sizes: Sequence[int]
) -> None:
    vocabulary_axis(axes, vocab_sizes)
    values: list[float] = []
    for each in series:
        values += draw_series(axes, quantity, each)
    bound = bounds(quantity, series)
    if bound:
        label = f"{quantity.bound_label} {LOWER_BOUND}"
        axes.plot(list(bound), list(bound.values()), label=label, **BOUND_LINE)
        values += bound.values()
    log_axis(axes.yaxis, values, quantity.text, quantity.base)
    draw_out_of_memory(axes, series, lambda each, vocab_size: vocab_size)


def draw_series(
    axes: Axes, quantity: Quantity, series: Series, *, alpha: float = 1.0
) -> list[float]:
    """Draws one series and returns what the axis must hold."""
    found = [
        (record["vocab_size"], value)
        for record in series.results
        if (value := quantity.value(record)) is not None
    ]
    if not found:
        return []
    medians = [value.median for _, value in found]
    below = [value.median - value.low for _, value in found]
    above = [value.high - value.median for _, value in found]
    axes.errorbar(
        [vocab_size for vocab_size, _ in found],
        medians,
        yerr=[below, above] if any(below + above) else None,
        color=series.colour,
        alpha=alpha,
        marker=series.style.marker,
        linestyle=series.style.line,
        label=series.title,
        # Where two frameworks coincide, the thinner line leaves the wider one to be seen.
        markersize=8 / (1 + 0.35 * series.rank),
        linewidth=2.8 / (1 + 0.8 * series.rank),
        elinewidth=1.2,
        capsize=3,
    )
    return [edge for _, value in found for edge in (value.low, value.high)]
