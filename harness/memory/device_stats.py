"""JAX on a GPU: the counters of the device's allocator.

Its high-water mark holds for the life of the process, which is why a process
measures one case, and why it is read before anything larger than a step has run.
"""

from __future__ import annotations

from typing import Any

PROBE = "xla device peak_bytes_in_use"


def peak_bytes(device: Any) -> int | None:
    """The most that was in use on the device so far; None where nobody counts (a CPU)."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use")


def reserved_bytes(device: Any) -> int | None:
    """What the allocator's pool took from the device."""
    return (device.memory_stats() or {}).get("pool_bytes")
