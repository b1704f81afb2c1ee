"""What ends a run on the terminal, from the rows and columns of the page's tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from harness.cases import SWEEP
from harness.report.anatomy_section import anatomy_tables
from harness.report.breaking_point_section import breaking_point_tables
from harness.report.columns import Column, shown_columns
from harness.report.failures import failures
from harness.report.measures import Record, of_mode, settle
from harness.report.notes import measurement_notes, shared_conditions
from harness.report.rich_table import rich_table
from harness.report.rows import Row, make_rows

_STATUS_STYLES = {"ok": "", "oom": "yellow", "unavailable": "bright_black"}
_OTHER_STATUS_STYLE = "bold red"


def closing_tables(records: Sequence[Record]) -> list[Table]:
    """One for each kind of records among those of a run."""
    settled = settle(records)
    others = (anatomy_tables(settled), breaking_point_tables(settled))
    return [
        *([closing_table(records)] if of_mode(records, SWEEP) or not records else []),
        *(
            rich_table(text, text.title or section.lead)
            for section in others
            for text in section.tables
        ),
    ]


def closing_table(records: Sequence[Record]) -> Table:
    """The table of a sweep; fits in 120 columns."""
    rows = make_rows(of_mode(records, SWEEP))
    columns = shown_columns(rows)
    table = Table(
        title=Text(_title(rows), style="bold"),
        title_justify="left",
        caption=_caption(rows),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(
            column.short,
            justify="right" if column.numeric else "left",
            # A label with options in it may wrap between its words; a number never may.
            no_wrap=column.title != "variant",
            min_width=12 if column.title == "variant" else None,
        )
    for index, row in enumerate(rows):
        ends_group = index + 1 == len(rows) or rows[index + 1].shape != row.shape
        cells = [_terminal_cell(column, row) for column in columns]
        table.add_row(*cells, end_section=ends_group)
    return table


def _terminal_cell(column: Column, row: Row) -> Text:
    style = _STATUS_STYLES.get(row.status, _OTHER_STATUS_STYLE)
    # Text, not str: a variant or a status must not be read as console markup.
    return Text(column.cell(row), style=style if column.title == "step ms" else "")


def _title(rows: Sequence[Row]) -> str:
    return f"LM-head loss: {shared_conditions(rows)}" if rows else "No records"


def _caption(rows: Sequence[Row]) -> Text | None:
    lines = measurement_notes(rows)
    failed = failures(rows)
    if not lines and not failed:
        return None
    caption = Text("\n".join(lines), style="not italic", justify="left")
    for failure in failed:
        style = _STATUS_STYLES.get(failure.status, _OTHER_STATUS_STYLE)
        caption.append(f"\n{failure.subject}", style=style)
        if failure.reason:
            caption.append(f" ({failure.reason})", style="bright_black")
    return caption
