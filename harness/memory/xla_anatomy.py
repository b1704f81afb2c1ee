"""XLA: what is alive at the peak, and the timeline, of a compiled program.

The buffer assignment says what each instruction finds alive; the profiler says when the
instructions ran. XLA takes its temporaries as one block for the whole of a step: the peak is
what is assigned, and what no value needed at the worst moment is listed as unused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import jax

from harness.memory.anatomy import (
    GRADIENT,
    INPUT,
    UNUSED,
    WORKSPACE,
    Anatomy,
    Buffer,
    Moment,
    by_size,
    thinned,
)
from harness.memory.buffer_assignment import PROBE, assigned_bytes, peak_bytes
from harness.memory.hlo_text import Origin
from harness.memory.xla_program import Program, Value, read_program

_UNKNOWN = Origin("", "", is_backward=False, is_container=False)
_SMALL = 1e-4
"""Of a step: instructions that take less time have no place in the timeline."""


class _Run(NamedTuple):
    """An instruction that ran."""

    start_s: float
    end_s: float
    instruction: str


def xla_anatomy(
    function: Callable[..., tuple[Any, ...]],
    inputs: Mapping[str, jax.Array],
    output_names: tuple[str, ...],
) -> Anatomy:
    """Compiles `function` of the inputs, whose outputs have these names, and runs it."""
    arrays = tuple(inputs.values())
    with TemporaryDirectory() as dump:
        options: dict[str, str | bool] = {"xla_dump_to": dump, "xla_dump_hlo_as_text": True}
        compiled = jax.jit(function).lower(*arrays).compile(compiler_options=options)
        program = read_program(Path(dump))
    outputs_bytes = sum(output.nbytes for output in jax.block_until_ready(compiled(*arrays)))
    runs = _profile(lambda: jax.block_until_ready(compiled(*arrays)), program)

    alive = [_alive(program, position) for position in range(max(program.schedule.values()) + 1)]
    live_bytes = [sum(value.size_bytes for value in values) for values in alive]
    inputs_bytes = sum(array.nbytes for array in arrays)
    assigned = peak_bytes(assigned_bytes(compiled))
    worst = alive[live_bytes.index(max(live_bytes))]
    names = _output_names(program, output_names)
    buffers = [
        *(Buffer(kind=INPUT, name=n, size_bytes=a.nbytes) for n, a in inputs.items()),
        *(_buffer(value, program, names) for value in worst),
    ]
    unused = assigned - sum(buffer.size_bytes for buffer in buffers)
    if unused > 0:
        name = "assigned, in use at another moment"
        buffers.append(Buffer(kind=UNUSED, name=name, size_bytes=unused))
    step_s = max(run.end_s for run in runs)
    moments: list[Moment] = [
        (run.start_s, inputs_bytes + live_bytes[program.schedule[run.instruction]])
        for run in runs
        # XLA runs small instructions ahead of the order that the buffers were assigned for.
        if run.end_s - run.start_s > _SMALL * step_s
    ]
    return Anatomy(
        source=PROBE,
        peak_bytes=assigned,
        buffers=by_size(buffers),
        # At the end the block of temporaries is given back.
        timeline=thinned(
            [(0.0, inputs_bytes), *moments, (step_s, inputs_bytes + outputs_bytes)], step_s
        ),
        step_s=step_s,
        backward_s=_backward_s(runs, program),
    )


def _alive(program: Program, position: int) -> list[Value]:
    """The values that an instruction finds alive, those that share their memory counted once."""
    found = [
        value
        for value in program.values
        if program.allocations[value.allocation].parameter is None
        and value.first <= position <= value.last
    ]
    # The largest first, then what was computed rather than handed on by a loop.
    found.sort(key=lambda value: (-value.size_bytes, value.is_loop_carried))
    apart: list[Value] = []
    for value in found:
        if not any(_share(value, other) for other in apart):
            apart.append(value)
    return apart


def _share(value: Value, other: Value) -> bool:
    return (
        value.allocation == other.allocation
        and value.offset < other.offset + other.size_bytes
        and other.offset < value.offset + value.size_bytes
    )


def _output_names(program: Program, names: Sequence[str]) -> dict[int, str]:
    """What the allocation of each output holds at the end."""
    places = {value.name: value.allocation for value in program.values}
    return {
        places[output]: name
        for output, name in zip(program.outputs, names, strict=True)
        if output in places
    }


def _buffer(value: Value, program: Program, output_names: Mapping[int, str]) -> Buffer:
    origin = _origin(program, value.instruction)
    allocation = program.allocations[value.allocation]
    operation = origin.operation or "carried by a loop:"
    if value.allocation in output_names and value.size_bytes == allocation.size_bytes:
        kind, name = GRADIENT, output_names[value.allocation]
    else:
        kind, name = WORKSPACE, f"{operation} {value.shape}"
    return Buffer(kind=kind, name=name, size_bytes=value.size_bytes, asked_by=origin.source)


def _profile(step: Callable[[], object], program: Program) -> list[_Run]:
    """The instructions of the program in the order in which they ran."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with TemporaryDirectory() as directory:
        with jax.profiler.trace(directory, profiler_options=options):
            step()
        (path,) = Path(directory).rglob("*.xplane.pb")
        data = jax.profiler.ProfileData.from_file(str(path))
    runs = []
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                instruction = dict(event.stats).get("hlo_op")
                # Of a loop each instruction is there, as often as it ran.
                if (
                    instruction in program.schedule
                    and not _origin(program, instruction).is_container
                ):
                    end_ns = event.start_ns + event.duration_ns
                    runs.append(_Run(event.start_ns / 1e9, end_ns / 1e9, str(instruction)))
    if not runs:
        raise ValueError("expected instructions of the step in XLA's profile, got none")
    runs.sort()
    start_s = runs[0].start_s
    return [_Run(start - start_s, end - start_s, name) for start, end, name in runs]


def _origin(program: Program, instruction: str) -> Origin:
    return program.origins.get(instruction, _UNKNOWN)


def _backward_s(runs: Sequence[_Run], program: Program) -> float | None:
    """When the backward pass begins: the moment that puts least time on the wrong side of it.

    XLA orders instructions as it likes, so a few of one pass may run among the other's. None
    where there is no such pass: the gradients were formed in the forward.
    """
    is_backward = [_origin(program, run.instruction).is_backward for run in runs]
    spent = _times_apart(runs)
    wrong = sum(time for time, backward in zip(spent, is_backward, strict=True) if not backward)
    if wrong == sum(spent):
        return None
    least, begins_s = wrong, runs[0].start_s
    for run, time, backward in zip(runs, spent, is_backward, strict=True):
        wrong += time if backward else -time
        if wrong < least:
            least, begins_s = wrong, run.end_s
    return begins_s


def _times_apart(runs: Sequence[_Run]) -> list[float]:
    """The seconds of each, without those in which an earlier one was still running."""
    times, until_s = [], runs[0].start_s
    for run in runs:
        times.append(max(run.end_s - max(run.start_s, until_s), 0.0))
        until_s = max(until_s, run.end_s)
    return times
