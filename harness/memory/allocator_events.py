"""PyTorch on a CPU: every allocation and release of a step, from the profiler."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

PROBE = "torch allocator events"


def peak_allocated_bytes(step: Callable[[], object]) -> int:
    """The most that was allocated at once during `step`, beyond what was there before.

    Read from the exported trace, the profiler's public form: its running total counts
    what an earlier profile saw, so the events are added up here.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = step()  # held until after the profile: its release is not part of the step
    with tempfile.TemporaryDirectory() as directory:
        trace = Path(directory) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    del result
    allocations = [event for event in events if event.get("name") == "[memory]"]
    allocated = peak = 0
    for event in sorted(allocations, key=lambda event: event["ts"]):
        allocated += event["args"]["Bytes"]
        peak = max(peak, allocated)
    return peak
