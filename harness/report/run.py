"""The runs that one report shows, each with a name that sets it apart from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.report.measures import Record


@dataclass(frozen=True)
class Run:
    """Records of one command. The name is empty where the report shows no other run."""

    name: str
    command: str
    records: tuple[Record, ...]


def named(name: str, command: str, records: Sequence[Record]) -> Run:
    """A run among others: each of its records says so, and is compared with its own alone."""
    return Run(name, command, tuple({**record, "run": name} for record in records))


def names_apart(directories: Sequence[Path]) -> list[str]:
    """For each folder as much of the end of its path as no other shares."""
    paths = [directory.resolve().parts[1:] for directory in directories]
    return [_name(path, [other for other in paths if other != path]) for path in paths]


def _name(path: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> str:
    for length in range(1, len(path)):
        if all(other[-length:] != path[-length:] for other in others):
            return "/".join(path[-length:])
    return "/".join(path)
