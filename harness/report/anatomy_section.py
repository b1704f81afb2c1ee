"""The section of an anatomy: what both frameworks hold at the peak, side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from harness.cases import ANATOMY
from harness.memory.anatomy import INPUT, WORKSPACE
from harness.report.anatomy_captions import peak_caption, timeline_caption
from harness.report.dissected import Dissected, Part, Shape, dissected, on_one_axis, sources
from harness.report.failures import failures
from harness.report.formats import MISSING, mebibytes
from harness.report.measures import Record, of_mode
from harness.report.naming import framework_title, listed
from harness.report.rows import make_rows
from harness.report.section import Plot, Section, TableText

TITLE = "Where the bytes are"
_MOST_PARTS = 8
_LEAST = 0.01
"""Of the peak: what is smaller has no row of its own."""


def anatomy_section(records: Sequence[Record], directory: Path) -> Section:
    """From the anatomies alone; the pictures are written into `directory`."""
    shapes = dissected(records)
    plots = [
        plot
        for index, (shape, steps) in enumerate(shapes.items())
        for plot in _draw(
            steps, shape, directory, f"_{index + 1}" if len(shapes) > 1 else "", shapes.keys()
        )
    ]
    return replace(anatomy_tables(records), plots=tuple(plots))


def anatomy_tables(records: Sequence[Record]) -> Section:
    """The section without its pictures."""
    shapes = dissected(records)
    several = len(shapes) > 1
    return Section(
        title=TITLE,
        lead=_lead(list(shapes)),
        tables=tuple(
            _table(steps, shape.described if several else "") for shape, steps in shapes.items()
        ),
        notes=tuple(_notes(records)),
        failures=tuple(failures(make_rows(of_mode(records, ANATOMY)))),
    )


def _lead(shapes: Sequence[Shape]) -> str:
    if not shapes:
        return "No step could be taken apart."
    return f"One step: {'; '.join(shape.described for shape in shapes)}."


def _table(steps: Sequence[Dissected], title: str) -> TableText:
    """For each variant the largest buffers of each framework, in columns side by side."""
    frameworks = sorted({step.series.framework for step in steps})
    labels = list(dict.fromkeys(step.series.label for step in steps))
    rows: list[tuple[str, ...]] = []
    starts: list[bool] = []
    for label in labels:
        columns = [
            _largest(next((step for step in steps if _is(step, framework, label)), None))
            for framework in frameworks
        ]
        for place, parts in enumerate(zip_longest(*columns)):
            cells = [cell for part in parts for cell in _cells(part)]
            rows.append((label, *cells))
            starts.append(place == 0)
    headers = [
        header
        for framework in frameworks
        for header in (f"{framework_title(framework)}: alive at the peak", "MiB", "asked for by")
    ]
    return TableText(
        title=title,
        headers=("variant", *headers),
        numeric=(False, *(False, True, False) * len(frameworks)),
        rows=tuple(rows),
        starts_group=tuple(starts),
    )


def _is(step: Dissected, framework: str, label: str) -> bool:
    return step.series.framework == framework and step.series.label == label


def _largest(step: Dissected | None) -> list[Part]:
    """The whole first, then its large parts, then one row for all the others."""
    if step is None:
        return []
    whole = Part("", "the whole peak", step.peak_bytes, "")
    large = [
        part
        for part in sorted(step.parts, key=lambda part: -part.size_bytes)
        if part.size_bytes >= _LEAST * step.peak_bytes and not part.is_of_many
    ][:_MOST_PARTS]
    rest = sum(part.size_bytes for part in step.parts) - sum(part.size_bytes for part in large)
    return [whole, *large, *([Part("", "all the rest", rest, "")] if rest else [])]


def _cells(part: Part | None) -> tuple[str, str, str]:
    if part is None:
        return ("", "", "")
    name = f"{part.name} ({part.kind})" if part.kind in (INPUT, WORKSPACE) else part.name
    return (name, mebibytes(part.size_bytes), part.asked_by or MISSING)


def _notes(records: Sequence[Record]) -> list[str]:
    if not (found := sources(records)):
        return []
    taken = listed([f"{framework_title(framework)} by {source}" for framework, source in found])
    return [
        f"Memory: {taken}. A buffer is named by the operation whose result it holds, with the "
        "line of the source that asked for it. XLA takes its temporaries as one block: what no "
        "value needs at the worst moment is in the block all the same."
    ]


def _draw(
    steps: Sequence[Dissected],
    shape: Shape,
    directory: Path,
    suffix: str,
    among: Collection[Shape],
) -> list[Plot]:
    from harness.report.anatomy_peak_plot import peak_figure
    from harness.report.anatomy_timeline_plot import other_timelines_figure, timeline_figure
    from harness.report.axes import save

    which = shape.set_apart(among)
    first, others = on_one_axis(steps)
    drawings = (
        ("peak", "What is alive at the peak", peak_figure, peak_caption, steps),
        ("timeline", "Memory over one step", timeline_figure, timeline_caption, first),
        (
            *("timeline_others", "Memory over one step, the other variants"),
            *(other_timelines_figure, timeline_caption, others),
        ),
    )
    plots = []
    for name, title, figure, caption, drawn in drawings:
        if drawn:
            path = directory / f"anatomy_{name}{suffix}.png"
            save(figure(drawn, shape.described), path)
            plots.append(Plot(path, f"{title} ({which})" if which else title, caption(drawn)))
    return plots
