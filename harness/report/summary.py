"""Writes `summary.md`: what was run, on what, the tables, the pictures and the words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.report.environment import environment_facts
from harness.report.glossary import glossary
from harness.report.measures import Record, settle
from harness.report.tables import markdown_tables

if TYPE_CHECKING:
    # For its type alone: the tables need no matplotlib.
    from harness.report.plots import Plot

TITLE = "LM-head loss: time and memory"


def write_summary(
    records: Sequence[Record], plots: Sequence[Plot], directory: Path, command: str
) -> Path:
    """Writes `summary.md` into `directory` and returns its path."""
    settled = settle(records)
    parts = [
        f"# {TITLE}",
        f"```\n{command}\n```",
        "## Environment",
        "\n".join(f"- {name}: {_plain(value)}" for name, value in environment_facts(settled)),
        "## Results",
        markdown_tables(settled).rstrip(),
        *(["## Plots"] if plots else []),
        *(part for plot in plots for part in _plot(plot, directory)),
        "## Words",
        "\n".join(f"- **{word}**: {meaning}" for word, meaning in glossary(settled)),
    ]
    path = directory / "summary.md"
    path.write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    return path


def _plot(plot: Plot, directory: Path) -> list[str]:
    # Relative, so that the folder of a run can be moved or published as it is.
    inside = plot.path.is_relative_to(directory)
    target = plot.path.relative_to(directory) if inside else plot.path
    return [f"### {plot.title}", f"![{plot.title}]({target.as_posix()})", plot.caption]


def _plain(value: str) -> str:
    return value.replace("<", "&lt;")
