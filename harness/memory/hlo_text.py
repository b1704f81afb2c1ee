"""What the text of a compiled HLO module says of its instructions: what each computes, for whom."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%(?P<name>\S+) \(.*\{$")
_INSTRUCTION = re.compile(
    r" +(?P<root>ROOT )?%(?P<name>\S+) = (?P<shape>\(.*?\)|\S+) (?P<opcode>[\w-]+)\((?P<rest>.*)"
)
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_FRAME = re.compile(r"stack_frame_id=(\d+)")
_SOURCE = re.compile(r'source_file="([^"]*)" source_line=(\d+)')
_CALLS = re.compile(r"calls=%([^\s,]+)")
_INDEX = re.compile(r"index=(\d+)")
_OPERAND = re.compile(r"%([^\s,()]+)")
_TABLE = re.compile(r"(?P<id>\d+) (?:\"(?P<text>.*)\"|\{(?P<fields>.*)\})$")

Tables = dict[str, dict[int, str]]


@dataclass(frozen=True)
class Origin:
    """Where an instruction comes from: `operation` is what it computes, in JAX's words."""

    operation: str
    source: str
    is_backward: bool
    is_container: bool
    """Whether it is a loop or a branch, whose instructions run one by one."""


@dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    opcode: str
    rest: str
    """Operands, attributes and metadata."""

    @property
    def op_name(self) -> str:
        found = _OP_NAME.search(self.rest)
        return found[1] if found else ""


Computations = dict[str, list[_Instruction]]


def read_hlo(lines: list[str]) -> tuple[dict[str, Origin], list[str]]:
    """The origin of each instruction, and the values that the module returns, by name."""
    tables = _tables(lines)
    computations, roots, entry = _computations(lines)
    origins = {
        each.name: Origin(
            operation=_operation(each, computations, roots),
            source=_source(each.rest, tables),
            # A transposed operation is one of the backward pass.
            is_backward="transpose(" in each.op_name,
            is_container=each.opcode in ("while", "conditional"),
        )
        for computation in computations.values()
        for each in computation
    }
    return origins, _outputs(computations.get(entry, []), roots.get(entry))


def _computations(lines: list[str]) -> tuple[Computations, dict[str, _Instruction], str]:
    """The instructions of each computation, the root of each, and which is the entry."""
    computations: Computations = {}
    roots: dict[str, _Instruction] = {}
    current, entry = "", ""
    for line in lines:
        if header := _COMPUTATION.match(line):
            current = header["name"]
            entry = current if header["entry"] else entry
        elif found := _INSTRUCTION.match(line):
            shape = found["shape"].partition("{")[0]
            instruction = _Instruction(found["name"], shape, found["opcode"], found["rest"])
            computations.setdefault(current, []).append(instruction)
            if found["root"]:
                roots[current] = instruction
    return computations, roots, entry


def _operation(
    instruction: _Instruction, computations: Computations, roots: dict[str, _Instruction]
) -> str:
    """The last word of its name in JAX; of a fusion the matmul in it, and what comes out."""
    words = [instruction.op_name]
    called = _CALLS.search(instruction.rest)
    if instruction.opcode == "fusion" and called and called[1] in roots:
        fused = computations[called[1]]
        matmuls = [e for e in fused if e.opcode == "dot" and e.shape == instruction.shape]
        root = roots[called[1]]
        words = [*(each.op_name for each in matmuls), root.op_name or instruction.op_name]
    return "+".join(dict.fromkeys(word.rpartition("/")[2] for word in words if word))


def _outputs(entry: list[_Instruction], root: _Instruction | None) -> list[str]:
    if root is None or root.opcode != "tuple":
        return [] if root is None else [root.name]
    by_name = {each.name: each for each in entry}
    operands = _OPERAND.findall(root.rest.partition(")")[0])
    return [_value(name, by_name) for name in operands]


def _value(name: str, by_name: dict[str, _Instruction]) -> str:
    """The value that an instruction hands on, where it is one that computes nothing."""
    instruction = by_name.get(name)
    if instruction is None or instruction.opcode not in ("get-tuple-element", "bitcast"):
        return name
    operand = _OPERAND.findall(instruction.rest)[0]
    if instruction.opcode == "bitcast":
        return _value(operand, by_name)
    index = _INDEX.search(instruction.rest)
    return f"{operand}{{{index[1] if index else 0}}}"


def _tables(lines: list[str]) -> Tables:
    """The tables that open the text: FileNames, FunctionNames, FileLocations, StackFrames."""
    tables: Tables = {}
    current: dict[int, str] = {}
    for line in lines:
        if line.isidentifier():
            current = tables.setdefault(line, {})
        elif found := _TABLE.match(line):
            current[int(found["id"])] = (
                found["text"] if found["fields"] is None else found["fields"]
            )
    return tables


def _source(metadata: str, tables: Tables) -> str:
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
