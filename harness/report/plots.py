"""Draws the four pictures of a run, once for each combination of conditions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.report import captions
from harness.report.axes import BOUND_LINE, LOWER_BOUND, add_legend, new_figure, new_panels, save
from harness.report.bar_plot import draw_bars
from harness.report.line_plot import draw_lines
from harness.report.measures import FLOOR, STREAM, Conditions, Record, settle
from harness.report.naming import describe, probe_note, set_apart
from harness.report.panel_plot import MOST_LABELS, draw_panels, panel_labels
from harness.report.pictured import pictured
from harness.report.quantity import ADDITIONAL_MEMORY, PEAK_MEMORY, STEP_TIME, Quantity, bounds
from harness.report.section import Plot
from harness.report.series import Series, by_conditions, make_series, vocabularies
from harness.report.tradeoff_plot import draw_tradeoff, tradeoff_point

_SUFFIXES = {
    "run": "",
    "batch_size": "b",
    "seq_len": "s",
    "hidden_dim": "d",
    "ignored_fraction": "ignored",
    "memory_limit_gib": "limit",
}


@dataclass(frozen=True)
class Drawing:
    """A picture not yet on disk."""

    name: str
    title: str
    caption: str
    figure: Figure


def draw_plots(records: Sequence[Record], directory: Path) -> list[Plot]:
    """Writes the PNGs into `directory`; a picture with nothing to show is left out.

    Records of several runs, shapes, dtypes or devices give one set of pictures each, told
    apart by a suffix in the file name and by the line under the title.
    """
    settled = [record for record in settle(records) if record["variant"] != STREAM]
    groups = by_conditions(settled)
    suffixes = file_suffixes(list(groups))
    plots = []
    for held in pictured(groups):
        group = groups[held]
        series = make_series(group, settled)
        for drawing in _drawings(series, group, describe(held)):
            path = directory / f"{drawing.name}{suffixes[held]}.png"
            save(drawing.figure, path)
            which = set_apart(held, groups)
            title = f"{drawing.title} ({which})" if which else drawing.title
            plots.append(Plot(path, title, drawing.caption))
    return plots


def file_suffixes(held: Sequence[Conditions]) -> dict[Conditions, str]:
    """For each combination what sets it apart: "_d512_float32", or "" for a single one."""
    varied = [
        field.name
        for field in fields(Conditions)
        if len({getattr(e, field.name) for e in held}) > 1
    ]
    suffixes: dict[Conditions, str] = {}
    for each in held:
        parts = [f"_{_SUFFIXES.get(name, '')}{_plain(getattr(each, name))}" for name in varied]
        plain = "".join(parts)
        # Names that differ in what a file name had better not hold would be one.
        alike = sum(other == plain or other.startswith(f"{plain}~") for other in suffixes.values())
        suffixes[each] = f"{plain}~{alike + 1}" if alike else plain
    return suffixes


def _plain(value: object) -> str:
    text = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9.]+", "-", text)


def _drawings(
    series: Sequence[Series], records: Sequence[Record], subtitle: str
) -> Iterator[Drawing]:
    probes = probe_note(records)
    losses = [each for each in series if each.variant != FLOOR]
    for quantity in (PEAK_MEMORY, ADDITIONAL_MEMORY):
        yield from _against_vocabulary(quantity, losses, subtitle, probes)
    yield from _against_vocabulary(STEP_TIME, series, subtitle, "")
    yield from _tradeoff(losses, subtitle, probes)


def _against_vocabulary(
    quantity: Quantity, series: Sequence[Series], subtitle: str, probes: str
) -> Iterator[Drawing]:
    if not any(quantity.shows(record) for each in series for record in each.results):
        return
    sizes, labels = vocabularies(series, quantity.shows), panel_labels(quantity, series)
    if len(sizes) > 1 and len(labels) > MOST_LABELS:
        figure = _panels(quantity, series, subtitle, _footnote(probes), sizes, labels)
    else:
        figure, axes = new_figure(quantity.title, subtitle, _footnote(probes))
        axes.set_ylabel(quantity.axis_label)
        if len(sizes) == 1:
            draw_bars(axes, quantity, series, sizes[0])
        else:
            draw_lines(axes, quantity, series, sizes)
        add_legend(figure, axes.get_legend_handles_labels()[0])
    caption = captions.quantity_caption(quantity, series, probes)
    yield Drawing(quantity.name, quantity.title, caption, figure)


def _panels(
    quantity: Quantity,
    series: Sequence[Series],
    subtitle: str,
    footnote: str,
    sizes: Sequence[int],
    labels: Sequence[str],
) -> Figure:
    note = "; ".join(part for part in (footnote, "standard stands behind each, faint") if part)
    figure, panels = new_panels(
        quantity.title, subtitle, note, labels,
        x_label="vocabulary size V, log scale", y_label=quantity.axis_label,
    )  # fmt: skip
    draw_panels(panels, quantity, series, sizes)
    frameworks = {each.framework_title: each.colour for each in series}
    handles = [Line2D([], [], color=colour, label=title) for title, colour in frameworks.items()]
    if bounds(quantity, series):
        label = f"{quantity.bound_label} {LOWER_BOUND}"
        handles.append(Line2D([], [], label=label, **BOUND_LINE))
    add_legend(figure, handles)
    return figure


def _tradeoff(series: Sequence[Series], subtitle: str, probes: str) -> Iterator[Drawing]:
    if not any(tradeoff_point(record) for each in series for record in each.results):
        return
    title = "Step time against memory beyond the inputs"
    figure, axes = new_figure(title, subtitle, _footnote(probes))
    add_legend(figure, draw_tradeoff(axes, series))
    caption = captions.tradeoff_caption(series, probes)
    yield Drawing("time_memory_tradeoff", title, caption, figure)


def _footnote(probes: str) -> str:
    return f"memory measured in {probes}" if probes else ""
