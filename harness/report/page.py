"""A page: all that `summary.md` and `report.html` both say, worked out once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.report.anatomy_section import anatomy_section
from harness.report.breaking_point_section import breaking_point_section
from harness.report.environment import environment_table, headline
from harness.report.glossary import glossary
from harness.report.measures import Record, settle
from harness.report.roofline_section import roofline_section
from harness.report.run import Run
from harness.report.section import Section, TableText
from harness.report.sweep_section import sweep_section

TITLE = "LM-head loss: time and memory"

# In the order of the page. Each draws its pictures into the folder.
SECTIONS: tuple[Callable[[Sequence[Record], Path], Section], ...] = (
    sweep_section,
    roofline_section,
    anatomy_section,
    breaking_point_section,
)


@dataclass(frozen=True)
class Page:
    """In the order in which it is shown."""

    title: str
    leads: tuple[str, ...]
    """What was measured on what, in a line for each run."""
    sections: tuple[Section, ...]
    environment: TableText
    commands: str
    """Those that reproduce it, a line each."""
    words: tuple[tuple[str, str], ...]


def make_page(runs: Sequence[Run], directory: Path) -> Page:
    settled = [replace(run, records=tuple(settle(run.records))) for run in runs]
    records = [record for run in settled for record in run.records]
    sections = [make(records, directory) for make in SECTIONS]
    return Page(
        title=TITLE,
        leads=tuple(headline(run) for run in settled if run.records),
        sections=tuple(section for section in sections if not section.is_empty),
        environment=environment_table(settled),
        commands="\n".join(line for run in runs for line in _command_lines(run)),
        words=tuple(glossary(records)),
    )


def _command_lines(run: Run) -> list[str]:
    # A comment of the shell, so that all of it can be copied and run.
    return [f"# {run.name}", run.command] if run.name else [run.command]
