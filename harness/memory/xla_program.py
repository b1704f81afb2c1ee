"""What XLA writes down about a compiled program: its buffers, their lives, their source lines.

Read from the compiler's dump (`xla_dump_to`), its only public form: the buffer assignment
gives each value a place in an allocation, the live range says between which instructions of
the schedule a value is needed, and the HLO text says which line each instruction comes from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.memory.hlo_text import Origin, read_hlo

_ALLOCATION = re.compile(r"allocation (?P<index>\d+): size (?P<size>\d+)(?P<rest>.*):$")
_VALUE = re.compile(
    r" *value: <\d+ (?P<name>\S+)(?P<phi> \(phi\))? @\d+> "
    r"\(size=(?P<size>\d+),offset=(?P<offset>\d+)\): (?P<shape>.*)$"
)
_PARAMETER = re.compile(r"parameter (\d+)")
_INSTRUCTION = re.compile(r" +(?P<position>\d+):(?P<name>\S+)$")
_LIVE = re.compile(r" +(?P<name>\S+):(?P<start>\d+)-(?P<end>\d+)$")


@dataclass(frozen=True)
class Allocation:
    """Memory that the program is given as a whole."""

    size_bytes: int
    parameter: int | None
    is_output: bool


@dataclass(frozen=True)
class Value:
    """What an instruction computes, its place, and the instructions between which it lives.

    `name` is that of the instruction, with an index where it computes several.
    """

    name: str
    shape: str
    is_loop_carried: bool
    allocation: int
    offset: int
    size_bytes: int
    first: int
    last: int

    @property
    def instruction(self) -> str:
        return self.name.partition("{")[0]


@dataclass
class Program:
    """A compiled program. `schedule` gives each instruction its position.

    `outputs` are the names of the values that it returns, in their order.
    """

    allocations: dict[int, Allocation] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    schedule: dict[str, int] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)


def read_program(dump: Path) -> Program:
    """The program that was compiled into this directory; raises `ValueError` without one."""
    program = Program()
    lives = dict(_lives(_only(dump, "live-range.txt"), program))
    _read_assignment(_only(dump, "buffer-assignment.txt"), lives, program)
    program.origins, program.outputs = read_hlo(_only(dump, "after_optimizations.txt"))
    return program


def _only(dump: Path, ending: str) -> list[str]:
    found = sorted(dump.glob(f"*{ending}"))
    if len(found) != 1:
        raise ValueError(f"expected one file *{ending} in XLA's dump, got {len(found)}")
    return found[0].read_text().splitlines()


def _lives(lines: list[str], program: Program) -> Iterator[tuple[str, tuple[int, int]]]:
    for line in lines:
        if found := _INSTRUCTION.match(line):
            program.schedule[found["name"]] = int(found["position"])
        elif found := _LIVE.match(line):
            yield _plain(found["name"]), (int(found["start"]), int(found["end"]))


def _read_assignment(lines: list[str], lives: dict[str, tuple[int, int]], program: Program) -> None:
    index: int | None = None
    for line in lines:
        if found := _ALLOCATION.match(line):
            rest = found["rest"]
            is_array = "thread-local" not in rest and "constant" not in rest
            index = int(found["index"]) if is_array else None
            if index is None:
                continue
            parameter = _PARAMETER.search(rest)
            program.allocations[index] = Allocation(
                int(found["size"]), int(parameter[1]) if parameter else None, "live-out" in rest
            )
        elif index is not None and (found := _VALUE.match(line)):
            name = _plain(found["name"])
            if name not in lives or found["shape"].startswith("("):
                continue  # a table of pointers
            program.values.append(
                Value(
                    name=name,
                    shape=found["shape"].partition("{")[0],
                    is_loop_carried=bool(found["phi"]),
                    allocation=index,
                    offset=int(found["offset"]),
                    size_bytes=int(found["size"]),
                    first=lives[name][0],
                    last=lives[name][1],
                )
            )


def _plain(name: str) -> str:
    return name.removesuffix("{}")
