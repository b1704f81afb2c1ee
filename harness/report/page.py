"""A page: all that `summary.md` and `report.html` both say, worked out once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.environment import environment_table, headline
from harness.report.glossary import glossary
from harness.report.measures import Record, settle
from harness.report.section import Section, TableText
from harness.report.sweep_section import sweep_section

TITLE = "LM-head loss: time and memory"

# In the order of the page. Each draws its pictures into the folder.
SECTIONS: tuple[Callable[[Sequence[Record], Path], Section], ...] = (sweep_section,)


@dataclass(frozen=True)
class Page:
    """In the order in which it is shown."""

    title: str
    lead: str
    """What was measured on what, in one line."""
    sections: tuple[Section, ...]
    environment: TableText
    command: str
    words: tuple[tuple[str, str], ...]


def make_page(records: Sequence[Record], directory: Path, command: str) -> Page:
    settled = settle(records)
    sections = [make(settled, directory) for make in SECTIONS]
    return Page(
        title=TITLE,
        lead=headline(settled),
        sections=tuple(section for section in sections if not section.is_empty),
        environment=environment_table(settled),
        command=command,
        words=tuple(glossary(settled)),
    )
