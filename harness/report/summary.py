"""Writes `summary.md`: the page as Markdown, its pictures beside it."""

from __future__ import annotations

from pathlib import Path

from harness.report.markdown import section_parts, table_parts
from harness.report.page import Page


def write_summary(page: Page, directory: Path) -> Path:
    """Writes `summary.md` into `directory` and returns its path."""
    parts = [
        f"# {page.title}",
        *page.leads,
        *(part for section in page.sections for part in section_parts(section, directory)),
        *([] if page.sections else ["No records."]),
        "## Environment",
        *table_parts(page.environment),
        "## Command",
        f"```\n{page.commands}\n```",
        "## Words",
        "\n".join(f"- **{word}**: {meaning}" for word, meaning in page.words),
    ]
    path = directory / "summary.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path
