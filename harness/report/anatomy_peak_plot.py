"""The picture of what is alive at the peak of a step: bars, cut into buffers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.memory.anatomy import GRADIENT, INPUT, UNUSED
from harness.report.axes import linear_axis, name_bars, new_figure
from harness.report.dissected import MEANINGS, Dissected, Part
from harness.report.formats import size

_COLOURS = {INPUT: "#B8BEC6", GRADIENT: "#7FB3D5", UNUSED: "#FFFFFF"}
# Neighbours in the workspace must be told apart.
_WORKSPACE_COLOURS = ("#D55E00", "#E69F00")
_NARROWEST = 0.07  # part of the axis that a label needs
_LETTERS = 95  # that the axis holds
_MOST_LINES = 3
_BAR_INCHES = 0.62


def peak_figure(steps: Sequence[Dissected], subtitle: str) -> Figure:
    """A bar for each step, cut into the buffers that were alive at its peak."""
    figure, axes = new_figure("What is alive at the peak", subtitle, "")
    figure.set_size_inches(10.0, 2.6 + _BAR_INCHES * len(steps))
    widest = max(step.peak_bytes for step in steps)
    for place, step in enumerate(steps):
        _draw_bar(axes, step, place, widest)
    name_bars(axes, [step.title for step in steps])
    axes.set_xlim(0, widest * 1.1)
    axes.set_xlabel("bytes at the peak of one step, inputs included")
    linear_axis(axes.xaxis, size, 2)
    figure.legend(
        handles=_kinds(steps), loc="outside lower left", ncols=4, frameon=False, fontsize=8.5
    )
    return figure


def _draw_bar(axes: Axes, step: Dissected, place: int, widest: int) -> None:
    left, workspaces = 0, 0
    for part in step.parts:
        colour = _COLOURS.get(part.kind)
        if colour is None:
            colour = _WORKSPACE_COLOURS[workspaces % 2]
            workspaces += 1
        axes.barh(
            place, part.size_bytes, 0.7, left, color=colour, edgecolor="white", linewidth=0.8,
            hatch="////" if part.kind == UNUSED else None,
        ).patches[0].set_edgecolor("#AAAAAA" if part.kind == UNUSED else "white")  # fmt: skip
        if part.size_bytes > _NARROWEST * widest:
            axes.text(
                left + part.size_bytes / 2, place, _label(part, part.size_bytes / widest),
                ha="center", va="center", fontsize=7.5, clip_on=True, linespacing=1.3,
                bbox={"facecolor": "white", "lw": 0, "pad": 1} if part.kind == UNUSED else None,
            )  # fmt: skip
        left += part.size_bytes
    axes.annotate(
        size(step.peak_bytes), (left, place), xytext=(5, 0), textcoords="offset points",
        va="center", fontsize=8.5, fontweight="bold",
    )  # fmt: skip


def _label(part: Part, part_of_axis: float) -> str:
    """The name, in as many lines as its piece of the bar needs, and the size below."""
    room = max(int(part_of_axis * _LETTERS), 8)
    # What a hatched piece is stands in the legend.
    lines = [] if part.kind == UNUSED else textwrap.wrap(part.name, room)
    return "\n".join([*lines[:_MOST_LINES], size(part.size_bytes)])


def _kinds(steps: Sequence[Dissected]) -> list[Patch]:
    shown = {part.kind for step in steps for part in step.parts}
    return [
        Patch(
            facecolor=_COLOURS.get(kind, _WORKSPACE_COLOURS[0]),
            edgecolor="#AAAAAA",
            hatch="////" if kind == UNUSED else None,
            label=meaning,
        )
        for kind, meaning in MEANINGS.items()
        if kind in shown
    ]
