"""A limit on the worker's memory: running out without a GPU, and without the kernel's help."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from harness.memory.host_rss import release_free_memory, status_bytes


@contextmanager
def data_limit(limit_bytes: int | None, resident_inputs_bytes: int) -> Iterator[None]:
    """Gives the arrays of a step `limit_bytes` in all, those that are there included.

    `RLIMIT_DATA` bounds the process; the framework's own code and threads are not
    what is measured, so what the process holds now, less its inputs, comes on top.
    Both frameworks answer an allocation over the limit with an exception. What is taken and
    never touched counts: the room in which XLA's CPU kernels pack operands, of which neither
    its buffer assignment nor the resident high-water mark says anything.
    """
    if limit_bytes is None:
        yield
        return
    release_free_memory()
    allowed = status_bytes("VmData") - resident_inputs_bytes + limit_bytes
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
