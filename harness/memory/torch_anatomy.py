"""PyTorch: what was alive at the peak, who asked for it, and the timeline, by allocator events.

The profiler records, beside every allocation, the operators and Python functions that were
running: the innermost of each says what a buffer is and which line wanted it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from harness.memory.allocator_events import PROBE, STEP, Event, allocations, profiled
from harness.memory.anatomy import (
    GRADIENT,
    INPUT,
    WORKSPACE,
    Anatomy,
    Buffer,
    by_size,
    thinned,
)

_BACKWARD = "_engine_run_backward"
_NODE = "autograd::engine::evaluate_function: "
_FUNCTION = re.compile(r"(?P<file>.+\.py)\((?P<line>\d+)\): (?P<name>.+)")
# What only makes room: the operator around it says what for.
_ROOM = re.compile(r"aten::(new_)?(empty|zeros|ones|full)(_like|_strided)?$|aten::(resize_|zero_)")
_COMPILED = re.compile(r"## Call (?P<name>\w+) \w+ ##")  # and a hash


def torch_anatomy(
    step: Callable[[], tuple[Any, ...]],
    inputs: Mapping[str, torch.Tensor],
    output_names: tuple[str, ...],
) -> Anatomy:
    """Profiles one step, whose outputs have these names."""
    outputs, events = profiled(step, with_stack=True)
    device = next(iter(inputs.values())).device.type
    memory = allocations(events, device)
    kept = _addresses(dict(zip(output_names, outputs, strict=True)))
    spans = [event for event in events if event.get("ph") == "X"]
    whole = next(span for span in spans if span["name"] == STEP)
    start, step_s = whole["ts"], whole["dur"] / 1e6

    inputs_bytes = sum(tensor.nbytes for tensor in inputs.values())
    allocated, peak, peak_index = 0, 0, -1
    timeline = [(0.0, inputs_bytes)]
    for index, event in enumerate(memory):
        allocated += event["args"]["Bytes"]
        if allocated > peak:
            peak, peak_index = allocated, index
        timeline.append((max(event["ts"] - start, 0.0) / 1e6, inputs_bytes + allocated))
    backward = [span["ts"] for span in spans if span["name"].endswith(_BACKWARD)]
    return Anatomy(
        source=PROBE,
        peak_bytes=inputs_bytes + peak,
        buffers=by_size(
            [
                *(Buffer(kind=INPUT, name=n, size_bytes=t.nbytes) for n, t in inputs.items()),
                *_alive(memory, peak_index, kept, spans),
            ]
        ),
        timeline=thinned(timeline, step_s),
        step_s=step_s,
        backward_s=(min(backward) - start) / 1e6 if backward else None,
    )


def _addresses(outputs: Mapping[str, torch.Tensor]) -> dict[int, str]:
    return {tensor.untyped_storage().data_ptr(): name for name, tensor in outputs.items()}


def _alive(
    memory: list[Event], peak_index: int, kept: Mapping[int, str], spans: list[Event]
) -> list[Buffer]:
    """The allocations alive after event `peak_index`; what outlives the step is a gradient."""
    outputs = {
        index: kept[event["args"]["Addr"]]
        for index, event in _alive_after(memory, len(memory) - 1).items()
        if event["args"]["Addr"] in kept
    }
    return [
        _buffer(event, outputs.get(index), spans)
        for index, event in _alive_after(memory, peak_index).items()
    ]


def _alive_after(memory: list[Event], last: int) -> dict[int, Event]:
    """Allocations up to event `last` that were not released, by index: addresses come again."""
    alive: dict[int, int] = {}
    for index, event in enumerate(memory[: last + 1]):
        address = event["args"]["Addr"]
        if event["args"]["Bytes"] < 0:
            alive.pop(address, None)
        else:
            alive[address] = index
    return {index: memory[index] for index in sorted(alive.values())}


def _buffer(event: Event, gradient: str | None, spans: list[Event]) -> Buffer:
    """The innermost operator names it, the innermost function of a loss asked for it."""
    around = sorted(
        (s for s in spans if s["tid"] == event["tid"] and s["ts"] <= event["ts"] <= _end(s)),
        key=lambda span: (span["ts"], -span["dur"]),
    )
    operators = [span["name"] for span in around if span.get("cat") == "cpu_op"]
    telling = [name for name in operators if not _ROOM.match(name) and not name.startswith(_NODE)]
    name = telling[-1] if telling else (operators or ["outside any operator"])[0]
    return Buffer(
        kind=WORKSPACE if gradient is None else GRADIENT,
        name=gradient or _COMPILED.sub(r"\g<name>", name).removeprefix("aten::"),
        size_bytes=event["args"]["Bytes"],
        asked_by=_asked_by(around),
    )


def _asked_by(around: list[Event]) -> str:
    for span in reversed(around):
        if span["name"].startswith(_NODE):  # called by the engine, from no line
            return span["name"].removeprefix(_NODE)
        function = _FUNCTION.fullmatch(span["name"])
        if function is None or function["name"] == "__init__":  # asked for by who made it
            continue
        if _is_asking(Path(function["file"])):
            return f"{function['name']} ({_short(Path(function['file']))}:{function['line']})"
    return ""


def _is_asking(file: Path) -> bool:
    """Whether it is a loss's: not of the standard library, of PyTorch, or the harness's own."""
    if file.parts[0] == "harness":
        return file.parts[1] == "variants"
    return len(file.parts) > 1 and file.parts[0] != "torch"


def _short(file: Path) -> str:
    """The last folder and the file; what torch.compile writes is called by hashes."""
    if "torchinductor" in str(file):
        return "torch.compile's code"
    return "/".join(file.parts[-2:])


def _end(span: Event) -> float:
    return span["ts"] + span["dur"]
