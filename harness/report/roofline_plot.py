"""The picture of where the time of a step goes: a bar for each loss, its matmuls and the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from harness.report.axes import GREY, add_legend, linear_axis, name_bars, new_panels, save
from harness.report.formats import duration
from harness.report.measures import Conditions
from harness.report.naming import describe, label_order, variant_order
from harness.report.roofline import Step
from harness.report.series import FRAMEWORK_COLOURS

TITLE = "Where the time of a step goes"
_MOST_PANELS = 3
_MOST_TICKS = 12  # of all panels
_BAR_INCHES = 0.27
_ROOM = 0.2  # of a bar, for what stands behind the longest, for each panel in a row
_PALE = 0.65


def draw_roofline(steps: Sequence[Step], held: Conditions, path: Path) -> None:
    save(roofline_figure(steps, held), path)


def roofline_figure(steps: Sequence[Step], held: Conditions) -> Figure:
    """A panel for each vocabulary, or the largest alone where they are many."""
    sizes = shown_vocabularies(steps)
    shown = [step for step in steps if _vocab_size(step) in sizes]
    bars = list(dict.fromkeys(step.title for step in sorted(shown, key=_place)))
    figure, panels = new_panels(
        TITLE,
        describe(held),
        "behind each bar: the step, and its matmuls at the rate of the floor in percent of it",
        [f"V = {size:,}" for size in sizes],
        x_label="median step time",
        y_label="",
        panel_inches=0.5 + _BAR_INCHES * len(bars),
        shares_x=False,
    )
    for axes, size in zip(panels, sizes, strict=True):
        _draw_panel(axes, [step for step in shown if _vocab_size(step) == size], bars)
        axes.set_xlim(right=axes.get_xlim()[1] * (1 + _ROOM * len(sizes)))
        linear_axis(axes.xaxis, duration, 10, min(6, _MOST_TICKS // len(sizes)))
        axes.tick_params(axis="x", labelsize=8)
    add_legend(figure, _handles(shown))
    return figure


def shown_vocabularies(steps: Sequence[Step]) -> list[int]:
    sizes = sorted({_vocab_size(step) for step in steps})
    return sizes if len(sizes) <= _MOST_PANELS else sizes[-1:]


def _draw_panel(axes: Axes, steps: Sequence[Step], bars: Sequence[str]) -> None:
    for step in steps:
        place, colour = bars.index(step.title), _colour(step)
        step_s = step.split.step_s
        matmuls_s = min(step.split.matmuls_s, step_s)
        axes.barh(place, matmuls_s, 0.72, color=colour)
        axes.barh(place, step_s - matmuls_s, 0.72, matmuls_s, color=_pale(colour))
        axes.annotate(
            f"{duration(step_s)}, {100 * step.split.matmuls_share:.0f} %", (step_s, place),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5,
        )  # fmt: skip
    name_bars(axes, bars)
    axes.set_xlim(0, max(step.split.step_s for step in steps))


def _handles(steps: Sequence[Step]) -> list[Any]:
    colours = {step.framework_title: _colour(step) for step in steps}
    return [
        Patch(color=look, label=f"{framework}: {part}")
        for framework, colour in sorted(colours.items())
        for look, part in ((colour, "matmuls"), (_pale(colour), "the rest"))
    ]


def _vocab_size(step: Step) -> int:
    return step.split.ceilings.key.vocab_size


def _place(step: Step) -> tuple[object, ...]:
    """By variant, so that the frameworks stand beside each other."""
    record = step.row.record
    return variant_order(record["variant"]), label_order(step.row.label), record["framework"]


def _colour(step: Step) -> str:
    return FRAMEWORK_COLOURS.get(step.row.record["framework"], GREY)


def _pale(colour: str) -> str:
    red, green, blue = (part + (1 - part) * _PALE for part in to_rgb(colour))
    return to_hex((red, green, blue))
