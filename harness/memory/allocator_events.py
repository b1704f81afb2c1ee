"""PyTorch: every allocation and release of a step, from the profiler.

Read from the exported trace, the profiler's public form: its running total counts
what an earlier profile saw, so the events are added up here.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# That of torch.profiler is built on it, and loads the compiler first: a second for each worker.
from torch.autograd.profiler import profile, record_function

PROBE = "torch allocator events"
STEP = "harness: one step"
"""What the step is called in the trace."""

Event = dict[str, Any]

_DEVICE_TYPES = {"cpu": 0, "cuda": 1}


def peak_allocated_bytes(step: Callable[[], object], device: str = "cpu") -> int:
    """The most that was allocated at once during `step` on "cpu" or "cuda", beyond before."""
    _, events = profiled(step, with_stack=False)
    allocated = peak = 0
    for event in allocations(events, device):
        allocated += event["args"]["Bytes"]
        peak = max(peak, allocated)
    return peak


def profiled(step: Callable[[], Any], *, with_stack: bool) -> tuple[Any, list[Event]]:
    """What `step` returns, and the events of the trace; times are in microseconds."""
    with (
        profile(use_kineto=True, profile_memory=True, with_stack=with_stack) as profiler,
        record_function(STEP),
    ):
        result = step()  # held until after the profile: its release is no part of the step
    with tempfile.TemporaryDirectory() as directory:
        trace = Path(directory) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        # Names of other people's functions need not be UTF-8.
        return result, json.loads(trace.read_bytes().decode(errors="replace"))["traceEvents"]


def allocations(events: list[Event], device: str) -> list[Event]:
    """Allocations and releases (`args.Bytes` < 0) on "cpu" or "cuda", in the order of time."""
    found = [
        event
        for event in events
        if event.get("name") == "[memory]"
        and event["args"].get("Device Type", 0) == _DEVICE_TYPES[device]
    ]
    return sorted(found, key=lambda event: event["ts"])
