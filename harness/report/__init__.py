"""Tables, plots and pages from the records of a run. Reads records only: no framework."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.report.measures import Record

__all__ = ["write_report"]


def write_report(records: Sequence[Record], directory: Path, command: str) -> Path:
    """Draws the plots, writes `summary.md` and `report.html`, returns the path of the latter.

    `command` is the command line that made the records; `directory` is made if need be.
    """
    # Here and not above: matplotlib and jinja2 take long to load, and whoever only parses
    # flags or lists cases should not wait for them.
    from harness.report.html import write_html
    from harness.report.page import make_page
    from harness.report.summary import write_summary

    directory.mkdir(parents=True, exist_ok=True)
    page = make_page(records, directory, command)
    write_summary(page, directory)
    return write_html(page, directory)
