"""The picture of how much is alive when: the bytes of a step over its time.

Standard and chunked stand on one axis; with many more variants the lines could not be told
apart, so that the others get a panel each.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.report.axes import GREY, add_legend, linear_axis, new_figure, new_panels
from harness.report.dissected import Dissected
from harness.report.formats import duration, size
from harness.report.series import LineStyle

_TIME = "time since the step began"
_BYTES = "bytes alive beyond the inputs"
_THIN = 0.8
_READ_JAX = "XLA: the values alive, in a block that is taken as a whole for the step"
_READ_TORCH = "PyTorch: its profiler slows the step"
_READ_BOTH = "shapes and heights may be compared, times only roughly"


def timeline_figure(steps: Sequence[Dissected], subtitle: str) -> Figure:
    """A line for each step on one axis, forward and backward."""
    figure, axes = new_figure(
        "Memory over one step, forward and backward", subtitle, _footnote(steps)
    )
    figure.set_size_inches(10.0, 5.6)
    for step in steps:
        _draw(axes, step, step.series.style.line)
    _settle(axes)
    axes.set_xlabel(_TIME)
    axes.set_ylabel(_BYTES)
    lines = [(each.title, each.colour, each.style.line) for each in (s.series for s in steps)]
    add_legend(figure, [*_named(lines), *_marks(steps)])
    return figure


def other_timelines_figure(steps: Sequence[Dissected], subtitle: str) -> Figure:
    """A panel for each variant, a line in it for each framework that has it."""
    labels = list(dict.fromkeys(step.series.label for step in steps))
    title = "Memory over one step, the other variants"
    figure, panels = new_panels(
        title, subtitle, _footnote(steps), labels, x_label=_TIME, y_label=_BYTES
    )
    for step in steps:
        _draw(panels[labels.index(step.series.label)], step, "-")
    _settle(panels[0])
    colours = {step.series.framework_title: step.series.colour for step in steps}
    lines = [(name, colour, "-") for name, colour in sorted(colours.items())]
    add_legend(figure, [*_named(lines), *_marks(steps)])
    return figure


def _footnote(steps: Sequence[Dissected]) -> str:
    frameworks = {step.series.framework for step in steps}
    lines = [
        *([_READ_JAX] if "jax" in frameworks else []),
        *([_READ_TORCH] if "torch" in frameworks else []),
    ]
    if len(lines) > 1:
        lines[-1] += f"; {_READ_BOTH}"
    return "\n".join(lines)


def _draw(axes: Axes, step: Dissected, line: LineStyle) -> None:
    colour = step.series.colour
    seconds = [second for second, _ in step.timeline]
    alive = [max(count, 0) for _, count in step.timeline]
    axes.plot(
        [*seconds, step.step_s], [*alive, alive[-1]], drawstyle="steps-post", color=colour,
        linestyle=line, linewidth=1.9 - 0.5 * step.series.rank,
    )  # fmt: skip
    if step.assigned_bytes is not None:
        axes.plot(
            [0, step.step_s], [step.assigned_bytes] * 2, color=colour, linestyle=line,
            linewidth=_THIN,
        )  # fmt: skip
    if step.backward_s is not None:
        before = [count for second, count in step.timeline if second <= step.backward_s]
        axes.plot(
            step.backward_s, max(before[-1] if before else 0, 0), "D", color=colour,
            markersize=6, markeredgecolor="white", zorder=4,
        )  # fmt: skip


def _settle(axes: Axes) -> None:
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    linear_axis(axes.xaxis, duration, 10)
    linear_axis(axes.yaxis, size, 2)


def _named(lines: Sequence[tuple[str, str, LineStyle]]) -> list[Line2D]:
    handles = []
    for name, colour, style in lines:
        handle = Line2D([], [], color=colour, label=name)
        handle.set_linestyle(style)  # type: ignore[arg-type]  # its stubs lack dashes
        handles.append(handle)
    return handles


def _marks(steps: Sequence[Dissected]) -> list[Line2D]:
    """What stands beside the lines."""
    assigned = {s.series.colour for s in steps if s.assigned_bytes is not None}
    handles = [
        Line2D([], [], color=colour, linewidth=_THIN, label="assigned by XLA for the whole step")
        for colour in sorted(assigned)
    ]
    if any(step.backward_s is not None for step in steps):
        handles.append(
            Line2D([], [], color=GREY, linestyle="none", marker="D", label="backward begins")
        )
    return handles
