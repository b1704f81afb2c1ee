"""The section of a sweep: variants by shape, in tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.cases import SWEEP
from harness.report.columns import MEMORY, NUMBERS, OVERVIEW, TIME, shown_columns
from harness.report.failures import failures
from harness.report.measures import Record, of_mode, settle
from harness.report.notes import ERROR_NOTE, TRACE_NOTE, measurement_notes, shared_conditions
from harness.report.pictured import pictured_note
from harness.report.plots import draw_plots
from harness.report.rows import Row, make_rows
from harness.report.section import Section, TableText
from harness.report.series import by_conditions

TITLE = "Variants by shape"
_DETAILS = ((TIME, "Time"), (MEMORY, "Memory"), (NUMBERS, "Errors against float64"))


def sweep_section(records: Sequence[Record], directory: Path) -> Section:
    """From the records of the sweep alone; the pictures are written into `directory`."""
    plots = draw_plots(of_mode(records, SWEEP), directory)
    return replace(sweep_tables(records), plots=tuple(plots))


def sweep_tables(records: Sequence[Record]) -> Section:
    """The section without its pictures."""
    swept = of_mode(records, SWEEP)
    rows = make_rows(swept)
    if not rows:
        return Section(title=TITLE, lead="", tables=())
    return Section(
        title=TITLE,
        lead=f"All rows: {shared_conditions(rows)}.",
        tables=(_table(rows, OVERVIEW, ""),),
        notes=(
            *measurement_notes(rows),
            ERROR_NOTE,
            *pictured_note(by_conditions(settle(swept))),
            *([TRACE_NOTE] if any(record.get("trace") for record in swept) else []),
        ),
        failures=tuple(failures(rows)),
        details=tuple(_table(rows, name, title) for name, title in _DETAILS),
    )


def _table(rows: Sequence[Row], name: str, title: str) -> TableText:
    columns = shown_columns(rows, table=name)
    return TableText(
        title=title,
        headers=tuple(column.title for column in columns),
        numeric=tuple(column.numeric for column in columns),
        rows=tuple(tuple(column.cell(row) for column in columns) for row in rows),
        statuses=tuple(row.status for row in rows),
        starts_group=tuple(
            index == 0 or rows[index - 1].shape != row.shape for index, row in enumerate(rows)
        ),
    )
