"""Sections and tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.report.section import Failure, Plot, Section, TableText


def section_parts(section: Section, directory: Path) -> list[str]:
    """The paragraphs of a section in a file that lies in `directory`."""
    return [
        f"## {section.title}",
        section.lead,
        *(part for table in section.tables for part in table_parts(table)),
        *section.notes,
        *_failures(section.failures),
        *(part for plot in section.plots for part in _plot(plot, directory)),
        *(part for table in section.details for part in table_parts(table)),
    ]


def table_parts(table: TableText) -> list[str]:
    return [
        *([f"### {table.title}"] if table.title else []),
        markdown_table(table.headers, table.numeric, table.rows),
    ]


def markdown_table(
    headers: Sequence[str], numeric: Sequence[bool], rows: Sequence[Sequence[str]]
) -> str:
    rule = ["---:" if each else "---" for each in numeric]
    lines = [headers, rule, *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("<", "&lt;").replace("\n", " ")


def _failures(failures: Sequence[Failure]) -> list[str]:
    if not failures:
        return []
    return [
        "### Cases without a result to count",
        "\n".join(f"- {_failure(failure)}" for failure in failures),
    ]


def _failure(failure: Failure) -> str:
    # In a code span nothing of the message is read as Markdown or as HTML.
    reason = failure.reason.replace("`", "'")
    return failure.subject + (f" (`{reason}`)" if reason else "")


def _plot(plot: Plot, directory: Path) -> list[str]:
    # Relative, so that the folder of a run can be moved or published as it is.
    inside = plot.path.is_relative_to(directory)
    target = plot.path.relative_to(directory) if inside else plot.path
    return [f"### {plot.title}", f"![{plot.title}]({target.as_posix()})", plot.caption]
