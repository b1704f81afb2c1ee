"""A quantity over several vocabularies where one picture cannot hold all lines: a panel a variant.

Each panel has the variant in every framework that has it, and standard behind it, faint.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from harness.report.axes import BOUND_LINE, log_axis, vocabulary_axis
from harness.report.line_plot import draw_series
from harness.report.out_of_memory import draw_out_of_memory, make_room
from harness.report.quantity import Quantity, bounds
from harness.report.series import Series

MOST_LABELS = 4
"""More variants than these, and the lines of two frameworks run into each other."""


def panel_labels(quantity: Quantity, series: Sequence[Series]) -> list[str]:
    """The variants that get a panel: those with something to show. Standard is in each."""
    return list(
        dict.fromkeys(
            each.label
            for each in series
            if each.variant != "standard"
            and (each.out_of_memory or any(map(quantity.shows, each.results)))
        )
    )


def draw_panels(
    panels: Sequence[Axes], quantity: Quantity, series: Sequence[Series], sizes: Sequence[int]
) -> None:
    """Into panels that share their axes, in the order of `panel_labels`."""
    values: list[float] = []
    shown: list[list[Series]] = []
    for axes, label in zip(panels, panel_labels(quantity, series), strict=True):
        x_label = axes.get_xlabel()
        vocabulary_axis(axes, sizes)
        axes.set_xlabel(x_label)
        behind = [each for each in series if each.variant == "standard"]
        shown.append([each for each in series if each.label == label])
        for each in behind:
            values += draw_series(axes, quantity, each, alpha=0.3)
        for each in shown[-1]:
            values += draw_series(axes, quantity, each)
    bound = bounds(quantity, series)
    values += bound.values()
    for axes in panels:
        if bound:
            axes.plot(list(bound), list(bound.values()), **BOUND_LINE)
        log_axis(axes.yaxis, values, quantity.text, quantity.base)
    # All grow together, as they share the axis.
    if levels := max(sum(bool(each.out_of_memory) for each in own) for own in shown):
        make_room(panels[0], levels)
    for axes, own in zip(panels, shown, strict=True):
        draw_out_of_memory(axes, own, lambda _, vocab_size: vocab_size, room_is_made=True)
