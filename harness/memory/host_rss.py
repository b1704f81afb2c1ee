"""The kernel's count: growth of the process's resident high-water mark over a step."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

from harness.memory.figures import Reading

PROBE = "kernel resident high-water mark"

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_HIGH_WATER_MARK = "5"
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_SMALL_BYTES = 64 * 2**10


def host_rss(step: Callable[[], object]) -> Reading | None:
    """The growth over a step that starts from a mark that has been reset."""
    growth = host_rss_growth_bytes(step)
    return None if growth is None else Reading(PROBE, growth)


def host_rss_growth_bytes(step: Callable[[], object]) -> int | None:
    """Resident memory at the worst moment of `step`, less what was resident before it.

    None where the kernel does not let the mark be reset. Afterwards the process allocates
    more slowly: it is not one to be timed any more.
    """
    _keep_no_free_memory()
    step()  # gives back what earlier steps have left to the threads
    gc.collect()
    release_free_memory()
    try:
        _CLEAR_REFS.write_text(_RESET_HIGH_WATER_MARK)
        before = status_bytes("VmRSS")
    except OSError:
        return None
    result = step()
    growth = status_bytes("VmHWM") - before
    del result
    return max(growth, 0)


def status_bytes(field: str) -> int:
    """A figure of /proc/self/status, such as VmRSS, VmHWM or VmData."""
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            kibibytes, _ = value.split()
            return int(kibibytes) * 1024
    raise OSError(f"{_STATUS} has no {field}")


def _keep_no_free_memory() -> None:
    """Makes the C allocator (glibc's) ask the kernel for every array, and give it back.

    A thread keeps what it freed, beyond the reach of `malloc_trim`, and the next step would
    use it without growing.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            libc.mallopt(parameter, _SMALL_BYTES)


def release_free_memory() -> None:
    """Gives memory that the C allocator holds but nobody uses back to the kernel."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
