"""The tables: one for the terminal, and those of the summary and the HTML report.

All take their cells from the same rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from harness.report.columns import Column, shown_columns
from harness.report.failures import failures
from harness.report.measures import SWEEP, Record, of_mode
from harness.report.naming import describe, probe_note, probes
from harness.report.rows import Row, make_rows
from harness.report.section import TableText

THEMES = (("time", "Time"), ("memory", "Memory"), ("numbers", "Errors against float64"))
_STATUS_STYLES = {"ok": "", "oom": "yellow", "unavailable": "bright_black"}
_OTHER_STATUS_STYLE = "bold red"

READING_NOTE = (
    "Times are medians; ± is the farthest sample's distance from the median. "
    "x standard and x floor: step time over that of the full-logits loss and of the three "
    "bare matmuls, same framework and shape."
)


def closing_table(records: Sequence[Record]) -> Table:
    """The table that ends a run on the terminal; fits in 120 columns."""
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


def shared_conditions(rows: Sequence[Row]) -> str:
    """What all rows have in common, for the line above a table."""
    held = {row.conditions for row in rows}
    if len(held) == 1:
        return describe(next(iter(held)))
    values = {
        "N": {str(each.tokens) for each in held},
        "D": {str(each.hidden_dim) for each in held},
        "dtype": {each.dtype for each in held},
        "device": {each.device or "unknown" for each in held},
    }
    same = [f"{name} = {next(iter(each))}" for name, each in values.items() if len(each) == 1]
    return ", ".join(same) or f"{len(held)} combinations of shape, dtype and device"


def _caption(rows: Sequence[Row]) -> Text | None:
    lines = notes(rows)
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


def notes(rows: Sequence[Row]) -> list[str]:
    """What a reader of the tables must know: how times and memory were taken."""
    if not rows:
        return []
    records = [row.record for row in rows]
    if not probes(records):
        return [READING_NOTE]
    several = len({probe for _, probe in probes(records)}) > 1
    warning = " Different probes: compare them with care." if several else ""
    return [READING_NOTE, f"Memory: {probe_note(records)}.{warning}"]


def table_texts(rows: Sequence[Row]) -> list[TableText]:
    """The full tables, by theme; together they hold every column."""
    return [_table_text(rows, theme, title) for theme, title in THEMES] if rows else []


def _table_text(rows: Sequence[Row], theme: str, title: str) -> TableText:
    columns = shown_columns(rows, table=theme)
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
