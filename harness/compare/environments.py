"""What of two runs' surroundings differs, and whether their times mean anything together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.environment import OF_THE_RUN, environment_facts
from harness.report.measures import Record

_DECIDES_TIMES = ("CPU", "GPU", "threads")


@dataclass(frozen=True)
class Difference:
    """A fact that is not the same in both; an unknown one is empty."""

    name: str
    old: str
    new: str

    @property
    def decides_times(self) -> bool:
        return self.name in _DECIDES_TIMES


def differences(old_records: Sequence[Record], new_records: Sequence[Record]) -> list[Difference]:
    """Processor, threads, versions and revision, of the cases that are compared."""
    old, new = dict(environment_facts(old_records)), dict(environment_facts(new_records))
    return [
        Difference(name, old.get(name, ""), new.get(name, ""))
        for name in dict.fromkeys((*old, *new))
        if name not in OF_THE_RUN and old.get(name) != new.get(name)
    ]
