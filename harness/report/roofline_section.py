"""The section that says what bounds each loss: its matmuls, or the rest of its step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from harness.cases import SWEEP
from harness.report.columns import naming_columns
from harness.report.formats import milliseconds, number
from harness.report.measures import (
    FLOOR,
    Conditions,
    GroupKey,
    Record,
    group_key,
    of_mode,
    settle,
)
from harness.report.naming import set_apart
from harness.report.notes import shared_conditions
from harness.report.pictured import pictured, pictured_note
from harness.report.plots import file_suffixes
from harness.report.roofline import Ceilings, Split, Step, ceilings, steps
from harness.report.roofline_plot import TITLE as PLOT_TITLE
from harness.report.roofline_plot import draw_roofline
from harness.report.roofline_readings import bounds_caption, readings
from harness.report.rows import Row, make_rows
from harness.report.section import Plot, Section, TableText
from harness.report.series import by_conditions

TITLE = "What bounds a step"
METHOD_NOTE = (
    "matmuls ms: the operations of a loss's matmuls at the rate of the floor, the three bare "
    "matmuls of this shape (6 NVD). The operations are those of the plan for ours, 6 NVD for "
    "losses that form their logits once, 8 NVD for those that form them again. rest ms: what is "
    "left of the step: passes over the logits, what goes by again for each tile, launches. rest "
    "B/logit: the bytes for each of the N x V logits that would go by in that time at the rate of "
    "the stream, one pass over the weight."
)
MORE_THAN_ALL_NOTE = (
    "Matmuls of more than 100 %: the step took less than its matmuls would at the rate of the "
    "floor, which multiplies in the dtype of the inputs, writes whole logits and reads them back. "
    "And a loss may leave out what is ignored or comes to nothing, which the count of its "
    "operations does not know."
)


_CEILINGS: tuple[tuple[str, Callable[[Ceilings], str]], ...] = (
    ("floor ms", lambda each: milliseconds(each.floor.median)),
    ("floor ± %", lambda each: number(each.floor.percent)),
    ("matmuls TFLOP/s", lambda each: number(each.flops_per_s / 1e12)),
    ("stream ms", lambda each: milliseconds(each.stream.median)),
    ("stream ± %", lambda each: number(each.stream.percent)),
    ("memory GB/s", lambda each: number(each.bytes_per_s / 1e9)),
    ("FLOP per byte", lambda each: number(each.flops_per_byte)),
)
_SPLIT: tuple[tuple[str, Callable[[Split], str]], ...] = (
    ("step ms", lambda each: milliseconds(each.step_s)),
    ("NVD", lambda each: f"{each.nvd:g}"),
    ("matmuls ms", lambda each: milliseconds(each.matmuls_s)),
    ("matmuls %", lambda each: number(100 * each.matmuls_share)),
    ("rest ms", lambda each: milliseconds(each.rest_s)),
    ("rest B/logit", lambda each: number(each.rest_bytes_per_logit)),
    ("bound by", lambda each: each.bound),
)
_TEXTS = ("bound by",)


def roofline_section(records: Sequence[Record], directory: Path) -> Section:
    """Of the sweeps with both yardsticks; the pictures are written into `directory`."""
    swept = settle(of_mode(records, SWEEP))
    known = ceilings(swept)
    rows = [row for row in make_rows(swept) if group_key(row.record) in known]
    found = steps(rows, known)
    if not rows:
        return Section(title=TITLE, lead="", tables=())
    groups = by_conditions([step.row.record for step in found])
    chosen = pictured(groups)
    shown = [step for step in found if step.row.conditions in chosen]
    return Section(
        title=TITLE,
        lead=f"All rows: {shared_conditions(rows)}.",
        tables=(_ceilings_table(rows, known), *([_steps_table(found)] if found else [])),
        notes=(*readings(shown), *_notes(found), *pictured_note(groups, "Sentences and pictures")),
        plots=tuple(_plots(shown, chosen, directory)),
    )


def _ceilings_table(rows: Sequence[Row], known: Mapping[GroupKey, Ceilings]) -> TableText:
    """A line for each framework and shape: where its floor stands."""
    floors = {group_key(row.record): row for row in rows if row.record["variant"] == FLOOR}
    naming = [column for column in naming_columns(rows) if column.title != "variant"]
    return TableText(
        title="What the device gives",
        headers=(*(column.title for column in naming), *(title for title, _ in _CEILINGS)),
        numeric=(*(column.numeric for column in naming), *(True for _ in _CEILINGS)),
        rows=tuple(
            (
                *(column.cell(row) for column in naming),
                *(cell(known[key]) for _, cell in _CEILINGS),
            )
            for key, row in floors.items()
        ),
    )


def _steps_table(found: Sequence[Step]) -> TableText:
    naming = naming_columns([step.row for step in found])
    return TableText(
        title="Where the time goes",
        headers=(*(column.title for column in naming), *(title for title, _ in _SPLIT)),
        numeric=(
            *(column.numeric for column in naming),
            *(title not in _TEXTS for title, _ in _SPLIT),
        ),
        rows=tuple(
            (
                *(column.cell(step.row) for column in naming),
                *(cell(step.split) for _, cell in _SPLIT),
            )
            for step in found
        ),
        statuses=tuple(step.row.status for step in found),
        starts_group=tuple(
            index == 0 or found[index - 1].row.shape != step.row.shape
            for index, step in enumerate(found)
        ),
    )


def _notes(found: Sequence[Step]) -> list[str]:
    more_than_all = any(step.split.matmuls_share > 1 for step in found)
    return [METHOD_NOTE, *([MORE_THAN_ALL_NOTE] if more_than_all else [])]


def _plots(shown: Sequence[Step], chosen: Sequence[Conditions], directory: Path) -> Iterator[Plot]:
    suffixes = file_suffixes(chosen)
    for held in chosen:
        group = [step for step in shown if step.row.conditions == held]
        path = directory / f"roofline{suffixes[held]}.png"
        draw_roofline(group, held, path)
        which = set_apart(held, chosen)
        largest = max(step.row.record["vocab_size"] for step in group)
        caption = bounds_caption([s for s in group if s.row.record["vocab_size"] == largest])
        yield Plot(path, f"{PLOT_TITLE} ({which})" if which else PLOT_TITLE, caption)
