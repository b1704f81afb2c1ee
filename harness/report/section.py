"""A section of a report: what `summary.md` and `report.html` both show of one kind of records.

A section is text and pictures on disk; how it was worked out from the records is the
business of the file that makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class TableText:
    """A table as text. Without a title it stands directly under that of its section."""

    title: str
    headers: tuple[str, ...]
    numeric: tuple[bool, ...]
    """For each column, whether it holds numbers."""
    rows: tuple[tuple[str, ...], ...]
    statuses: tuple[str, ...] = ()
    """For each row, the status of its record; none where rows have none."""
    starts_group: tuple[bool, ...] = ()
    """For each row, whether it is the first of those that belong together."""


@dataclass(frozen=True)
class Failure:
    """Cases that ended the same way for the same reason."""

    status: str
    subject: str
    """E.g. "torch standard at V = 16384, 32768: out of memory"."""
    reason: str


@dataclass(frozen=True)
class Plot:
    """A picture on disk, and the sentence that says what to see in it."""

    path: Path
    title: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """In the order in which a page shows it; a section that would show nothing is left out."""

    title: str
    lead: str
    """What all that follows has in common, in one line."""
    tables: tuple[TableText, ...]
    notes: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    plots: tuple[Plot, ...] = ()
    details: tuple[TableText, ...] = ()
    """Tables for those who want to know more, after the pictures."""

    @property
    def is_empty(self) -> bool:
        return not (self.tables or self.failures)
