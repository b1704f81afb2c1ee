"""What the tests of anatomies have in common."""

from __future__ import annotations

from collections.abc import Iterable

from harness.report.dissected import Dissected, dissected
from harness.report.measures import Record

MIB = 2**20


def steps_of(records: Iterable[Record]) -> list[Dissected]:
    """The steps of records of one shape."""
    ((_, steps),) = dissected(list(records)).items()
    return steps
