"""A table of a report on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from harness.report.section import TableText


def rich_table(text: TableText, title: str) -> Table:
    """As wide as the terminal lets it be."""
    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for header, numeric in zip(text.headers, text.numeric, strict=True):
        justify: JustifyMethod = "right" if numeric else "left"
        table.add_column(header, justify=justify, no_wrap=numeric, overflow="fold")
    for index, row in enumerate(text.rows):
        following = text.starts_group[index + 1 :][:1] or (True,)
        table.add_row(*map(Text, row), end_section=following[0])
    return table
