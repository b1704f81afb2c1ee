"""An axis in chunks. The last one is as long as what is left: nothing is padded."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from loss_spec.workspace import PIECE_NUMBERS, SLAB_NUMBERS


def chunks(length: int, size: int) -> Iterator[slice]:
    """The slices of `size` rows, and the shorter one at the end, that make up an axis."""
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def pieces(rows: Tensor) -> Iterator[slice]:
    """The rows of a tensor in pieces, for steps that need a buffer as large as what they work on.

    On a CPU 1 MiB of float32; on a GPU more, where each step has to be launched.
    """
    size = PIECE_NUMBERS["cpu" if rows.device.type == "cpu" else "gpu"]
    return chunks(len(rows), max(1, size // max(1, rows.shape[1:].numel())))


def slabs(tile: Tensor) -> Iterator[slice]:
    """The rows of a tile in slabs that stay in a CPU's cache from one pass to the next.

    4 MiB of float32: passes over a tile of 64 MiB would each wait for the memory.
    """
    rows, columns = tile.shape
    size = SLAB_NUMBERS // columns if tile.device.type == "cpu" else rows
    return chunks(rows, max(size, 1))
