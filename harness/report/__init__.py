"""Tables, plots and pages from the records of runs. Reads records only: no framework."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.report.measures import Record
from harness.report.run import Run

__all__ = ["write_merged_report", "write_report"]


def write_report(records: Sequence[Record], directory: Path, command: str) -> Path:
    """Draws the plots, writes `summary.md` and `report.html`, returns the path of the latter.

    `command` is the command line that made the records; `directory` is made if need be.
    """
    return write_merged_report([Run("", command, tuple(records))], directory)


def write_merged_report(runs: Sequence[Run], directory: Path) -> Path:
    """The same of several runs in one."""
    # Here and not above: matplotlib and jinja2 take long to load, and whoever only parses
    # flags or lists cases should not wait for them.
    from harness.report.html import write_html
    from harness.report.page import make_page
    from harness.report.summary import write_summary

    directory.mkdir(parents=True, exist_ok=True)
    page = make_page(runs, directory)
    write_summary(page, directory)
    return write_html(page, directory)
