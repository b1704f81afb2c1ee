"""Draws step time against workspace: every tiling, the frontier, and what the plan chose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.report.axes import GREY, add_legend, log_axis, new_figure, save
from harness.report.formats import duration, size
from harness.report.frontier import Point, Tuning
from harness.report.measures import GroupKey
from harness.report.naming import describe, framework_title, probe_note

_COLOURS = {"two_pass": "#0072B2", "one_pass": "#D55E00"}
_MARKERS = {"two_pass": "o", "one_pass": "s"}
_CHOSEN = "#000000"
_NAME_PIXELS = (90, 14)


def draw_frontiers(found: Sequence[Tuning], directory: Path) -> dict[GroupKey, Path]:
    """A PNG for each framework that has a point to show, numbered where it has several shapes."""
    shown = [tuning for tuning in found if any(point.is_measured for point in tuning.points)]
    paths = {}
    for index, tuning in enumerate(shown):
        framework = tuning.key.framework
        same = [other.key.framework for other in shown[:index]].count(framework)
        path = directory / f"frontier_{framework}{f'_{same + 1}' if same else ''}.png"
        save(draw_frontier(tuning), path)
        paths[tuning.key] = path
    return paths


def draw_frontier(tuning: Tuning) -> Figure:
    key = tuning.key
    note = probe_note(tuning.records)
    figure, axes = new_figure(
        f"{framework_title(key.framework)}: step time against workspace",
        f"{describe(key.conditions)}, V = {key.vocab_size}",
        f"workspace measured in {note}" if note else "",
    )
    measured = [point for point in tuning.points if point.is_measured and point.place[0] > 0]
    _set_axes(axes, tuning, measured)
    handles = [*_draw_tilings(axes, measured), _draw_frontier_line(axes, tuning)]
    handles += _draw_choices(axes, measured)
    handles += _draw_yardsticks(axes, tuning)
    _name_frontier(axes, tuning)
    add_legend(figure, handles)
    return figure


def _set_axes(axes: Axes, tuning: Tuning, points: Sequence[Point]) -> None:
    spaces = [point.place[0] for point in points]
    times = [point.place[1] for point in points]
    for yardstick in (tuning.standard, tuning.floor):
        if yardstick is not None:
            times.append(yardstick.step.median)
            spaces += [yardstick.workspace_bytes] if yardstick.workspace_bytes else []
    log_axis(axes.xaxis, spaces, size, 2)
    log_axis(axes.yaxis, times, duration, 10)
    left, right = axes.get_xlim()
    axes.set_xlim(left / (right / left) ** 0.07, right)  # room for the name of the leanest
    axes.set_xlabel("workspace: memory beyond inputs and gradients, log scale")
    axes.set_ylabel("median step time, log scale")


def _draw_tilings(axes: Axes, points: Sequence[Point]) -> list[Any]:
    handles = []
    for strategy, colour in _COLOURS.items():
        places = [point.place for point in points if point.strategy == strategy]
        if places:
            spaces, times = zip(*places, strict=True)
            handles += axes.plot(
                spaces,
                times,
                _MARKERS[strategy],
                color=colour,
                markersize=6,
                alpha=0.75,
                label=strategy,
                zorder=3,
            )
    return handles


def _draw_frontier_line(axes: Axes, tuning: Tuning) -> Any:
    """Steps: a tiling that needs less than the next one's workspace is no faster than its own."""
    spaces, times = zip(*(point.place for point in tuning.frontier), strict=True)
    (line,) = axes.plot(
        [*spaces, axes.get_xlim()[1]],
        [*times, times[-1]],
        color=GREY,
        linewidth=1.4,
        drawstyle="steps-post",
        label="the frontier of what was measured",
        zorder=2,
    )
    return line


def _draw_choices(axes: Axes, points: Sequence[Point]) -> list[Any]:
    handles = []
    for marker, marker_size, label, is_default in (
        ("*", 17, "the plan's choice by default", True),
        ("D", 10, "the plan's choice within a budget", False),
    ):
        chosen = [
            point for point in points if point.choice and (point.choice == "default") == is_default
        ]
        if chosen:
            spaces, times = zip(*(point.place for point in chosen), strict=True)
            handles += axes.plot(
                spaces,
                times,
                marker,
                linestyle="none",
                markerfacecolor="none",
                markeredgecolor=_CHOSEN,
                markeredgewidth=1.3,
                markersize=marker_size,
                label=label,
                zorder=4,
            )
    return handles


def _draw_yardsticks(axes: Axes, tuning: Tuning) -> list[Any]:
    handles: list[Any] = []
    if tuning.standard is not None:
        time = tuning.standard.step.median
        axes.axhline(time, color=GREY, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
        if tuning.standard.workspace_bytes:
            handles += axes.plot(
                tuning.standard.workspace_bytes,
                time,
                "X",
                color=GREY,
                markersize=10,
                label=f"standard, {duration(time)}",
                zorder=3,
            )
    if tuning.floor is not None:
        time = tuning.floor.step.median
        label = f"floor, {duration(time)}"
        handles.append(axes.axhline(time, color=GREY, linestyle=":", linewidth=1.8, label=label))
    return handles


def _name_frontier(axes: Axes, tuning: Tuning) -> None:
    """The tiles of the frontier's points, below and to the left of each: where no other can be.

    But for one whose name would stand on that of the point before it.
    """
    named = axes.transData.transform((axes.get_xlim()[0], axes.get_ylim()[1]))
    for point in tuning.frontier:
        place = axes.transData.transform(point.place)
        if place[0] - named[0] < _NAME_PIXELS[0] and named[1] - place[1] < _NAME_PIXELS[1]:
            continue
        named = place
        axes.annotate(
            f"{point.token_chunk} x {point.vocab_chunk}",
            point.place,
            xytext=(-5, -6),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=7.5,
            color=_COLOURS.get(point.strategy or "", GREY),
        )
