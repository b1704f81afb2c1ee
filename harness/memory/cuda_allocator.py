"""PyTorch on a GPU: the counters of its caching allocator."""

from __future__ import annotations

from collections.abc import Callable

import torch

PROBE = "cuda caching allocator"


def peak_allocated_bytes(step: Callable[[], object]) -> int:
    """The most that was allocated at once during `step`, beyond what was there before."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def reserved_bytes() -> int:
    """What the allocator holds from the device, in use or cached."""
    return torch.cuda.memory_reserved()
