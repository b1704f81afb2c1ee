"""Two pictures of an anatomy: what is alive at the peak, and how much is alive when."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report.axes import GREY, add_legend, name_bars, new_figure
from harness.report.dissected import GRADIENT, INPUT, MEANINGS, UNUSED, Dissected, Part
from harness.report.formats import MIB, duration, size

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
    _byte_ticks(axes, "x")
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


def timeline_figure(steps: Sequence[Dissected], subtitle: str) -> Figure:
    """A line for each step: the bytes alive beyond the inputs, forward and backward."""
    figure, axes = new_figure(
        "Memory over one step, forward and backward", subtitle,
        "profiled steps: slower than those of a sweep",
    )  # fmt: skip
    figure.set_size_inches(10.0, 5.6)
    for step in steps:
        seconds = [second for second, _ in step.timeline]
        alive = [max(count, 0) for _, count in step.timeline]
        axes.plot(
            [*seconds, step.step_s], [*alive, alive[-1]], drawstyle="steps-post",
            color=step.series.colour, linestyle=step.series.style.line,
            linewidth=1.9 - 0.5 * step.series.rank,
        )  # fmt: skip
        _mark_backward(axes, step)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("time since the step began")
    axes.set_ylabel("bytes alive beyond the inputs")
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda seconds, _: duration(seconds) if seconds else "0")
    )
    _byte_ticks(axes, "y")
    add_legend(figure, _lines(steps))
    return figure


def _mark_backward(axes: Axes, step: Dissected) -> None:
    if step.backward_s is None:
        return
    before = [count for second, count in step.timeline if second <= step.backward_s]
    axes.plot(
        step.backward_s, max(before[-1] if before else 0, 0), "D", color=step.series.colour,
        markersize=6, markeredgecolor="white", zorder=4,
    )  # fmt: skip


def _lines(steps: Sequence[Dissected]) -> list[Line2D]:
    lines = []
    for each in (step.series for step in steps):
        line = Line2D([], [], color=each.colour, label=each.title)
        line.set_linestyle(each.style.line)  # type: ignore[arg-type]  # its stubs lack dashes
        lines.append(line)
    if any(step.backward_s is not None for step in steps):
        lines.append(
            Line2D([], [], color=GREY, linestyle="none", marker="D", label="backward begins")
        )
    return lines


def _byte_ticks(axes: Axes, which: str) -> None:
    """Steps that are round in MiB."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    unit = 1024 if high >= 2 * 1024 * MIB else 1
    ticks = MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]).tick_values(0, high / MIB / unit)
    ticks = [tick * MIB * unit for tick in ticks if low <= tick * MIB * unit <= high]
    axis.set_ticks(ticks, [size(tick) if tick else "0" for tick in ticks])
