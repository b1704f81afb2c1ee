"""The section of a sweep: variants by shape, in tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.report.failures import failures
from harness.report.measures import SWEEP, Record, of_mode
from harness.report.plots import draw_plots
from harness.report.rows import make_rows
from harness.report.section import Section
from harness.report.tables import notes, shared_conditions, table_texts

TITLE = "Variants by shape"


def sweep_section(records: Sequence[Record], directory: Path) -> Section:
    """From the records of the sweep alone; the pictures are written into `directory`."""
    plots = draw_plots(of_mode(records, SWEEP), directory)
    return replace(sweep_tables(records), plots=tuple(plots))


def sweep_tables(records: Sequence[Record]) -> Section:
    """The section without its pictures."""
    rows = make_rows(of_mode(records, SWEEP))
    return Section(
        title=TITLE,
        lead=f"All rows: {shared_conditions(rows)}." if rows else "",
        tables=tuple(table_texts(rows)),
        notes=tuple(notes(rows)),
        failures=tuple(failures(rows)),
    )
