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

_ALLOCATION = re.compile(r"allocation (?P<index>\d+): size (?P<size>\d+)(?P<rest>.*):$")
_VALUE = re.compile(
    r" *value: <\d+ (?P<name>\S+)(?P<phi> \(phi\))? @\d+> "
    r"\(size=(?P<size>\d+),offset=(?P<offset>\d+)\): (?P<shape>.*)$"
)
_PARAMETER = re.compile(r"parameter (\d+)")
_INSTRUCTION = re.compile(r" +(?P<position>\d+):(?P<name>\S+)$")
_LIVE = re.compile(r" +(?P<name>\S+):(?P<start>\d+)-(?P<end>\d+)$")
_ORIGIN = re.compile(r" *(ROOT )?%(?P<name>\S+) = .*metadata=\{(?P<metadata>.*?)\}")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_FRAME = re.compile(r"stack_frame_id=(\d+)")
_SOURCE = re.compile(r'source_file="([^"]*)" source_line=(\d+)')
_TABLE = re.compile(r"(?P<id>\d+) (?:\"(?P<text>.*)\"|\{(?P<fields>.*)\})$")


@dataclass(frozen=True)
class Allocation:
    """Memory that the program is given as a whole."""

    size_bytes: int
    parameter: int | None
    is_output: bool


@dataclass(frozen=True)
class Value:
    """What an instruction computes, its place, and the instructions between which it lives."""

    instruction: str
    shape: str
    is_loop_carried: bool
    allocation: int
    offset: int
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Origin:
    """Where an instruction comes from."""

    op_name: str
    source: str

    @property
    def is_backward(self) -> bool:
        return "transpose(" in self.op_name


@dataclass
class Program:
    """A compiled program. `schedule` gives each instruction its position."""

    allocations: dict[int, Allocation] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    schedule: dict[str, int] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)


def read_program(dump: Path) -> Program:
    """The program that was compiled into this directory; raises `ValueError` without one."""
    program = Program()
    lives = dict(_lives(_only(dump, "live-range.txt"), program))
    _read_assignment(_only(dump, "buffer-assignment.txt"), lives, program)
    program.origins = dict(_origins(_only(dump, "after_optimizations.txt")))
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
    for line in lines:
        if found := _ALLOCATION.match(line):
            index, rest = int(found["index"]), found["rest"]
            if "thread-local" in rest or "constant" in rest:
                index = -1  # no array of the step
                continue
            parameter = _PARAMETER.search(rest)
            program.allocations[index] = Allocation(
                int(found["size"]), int(parameter[1]) if parameter else None, "live-out" in rest
            )
        elif (found := _VALUE.match(line)) and index in program.allocations:
            name = _plain(found["name"])
            if name not in lives or found["shape"].startswith("("):
                continue  # a table of pointers
            program.values.append(
                Value(
                    instruction=name.partition("{")[0],
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


def _origins(lines: list[str]) -> Iterator[tuple[str, Origin]]:
    tables = _tables(lines)
    for line in lines:
        if found := _ORIGIN.match(line):
            op_name = _OP_NAME.search(found["metadata"])
            yield (
                found["name"],
                Origin(op_name[1] if op_name else "", _source(found["metadata"], tables)),
            )


def _tables(lines: list[str]) -> dict[str, dict[int, str]]:
    """The tables that open the HLO text: FileNames, FunctionNames, FileLocations, StackFrames."""
    tables: dict[str, dict[int, str]] = {}
    current: dict[int, str] = {}
    for line in lines:
        if line.isidentifier():
            current = tables.setdefault(line, {})
        elif found := _TABLE.match(line):
            current[int(found["id"])] = (
                found["text"] if found["fields"] is None else found["fields"]
            )
    return tables


def _source(metadata: str, tables: dict[str, dict[int, str]]) -> str:
    """E.g. "matmul (jax_impl/matmul.py:44)"."""
    if inline := _SOURCE.search(metadata):
        return f"{_short(inline[1])}:{inline[2]}"
    frame = _FRAME.search(metadata)
    if frame is None:
        return ""
    try:
        at = _fields(tables["StackFrames"][int(frame[1])])["file_location_id"]
        where = _fields(tables["FileLocations"][at])
        file = tables["FileNames"][where["file_name_id"]]
        function = tables["FunctionNames"][where["function_name_id"]]
    except KeyError:
        return ""
    return f"{function} ({_short(file)}:{where['line']})"


def _fields(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in (pair.split("=") for pair in text.split())}


def _short(file: str) -> str:
    """The last folder and the file: enough to find it, and no path of a machine."""
    return "/".join(Path(file).parts[-2:])
