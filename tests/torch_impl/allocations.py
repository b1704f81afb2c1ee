"""What a step allocates, from the events of PyTorch's CPU allocator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile


class Allocations(NamedTuple):
    """In bytes; `workspace` is what was live at the worst moment beyond what the step returned."""

    largest: int
    peak: int
    workspace: int
    sizes: tuple[int, ...]
    """of each allocation, in order"""

    def at_least(self, size: int) -> int:
        """How many allocations are as large as that."""
        return sum(each >= size for each in self.sizes)


def record_allocations(
    step: Callable[[], tuple[torch.Tensor, ...]], directory: Path
) -> Allocations:
    """Runs a step under the profiler; its tensors from before do not count."""
    step()  # what is allocated once, for good, is no part of a step
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        results = step()
    trace = directory / "trace.json"
    profiler.export_chrome_trace(str(trace))
    sizes = _sizes_in_order(json.loads(trace.read_text())["traceEvents"])

    live = peak = 0
    for size in sizes:
        live += size
        peak = max(peak, live)
    returned = sum(result.untyped_storage().nbytes() for result in results)
    return Allocations(max(sizes), peak, peak - returned, tuple(n for n in sizes if n > 0))


def _sizes_in_order(events: list[dict[str, Any]]) -> list[int]:
    memory = [event for event in events if event["name"] == "[memory]"]
    return [event["args"]["Bytes"] for event in sorted(memory, key=lambda event: event["ts"])]
