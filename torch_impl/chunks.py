"""An axis in chunks. The last one is as long as what is left: nothing is padded."""

from __future__ import annotations

from collections.abc import Iterator


def chunks(length: int, size: int) -> Iterator[slice]:
    """The slices of `size` rows, and the shorter one at the end, that make up an axis."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))
