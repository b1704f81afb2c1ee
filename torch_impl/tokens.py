"""The tokens in blocks, without those that are ignored where that can be known.

On a CPU the labels can be read: with most of them ignored, as in a fine-tuning batch, the
matmuls shrink with the number of tokens that count. On an accelerator reading them would
make the host wait, so there every token is in a block.
"""

from __future__ import annotations

from collections.abc import Iterator

from jaxtyping import Int64, Shaped
from torch import Tensor

from torch_impl.chunks import chunks
from torch_impl.labels import IGNORED

# Rows of the arguments: a slice, or the indices of some.
Rows = slice | Tensor


def counted_tokens(codes: Int64[Tensor, " N"]) -> Int64[Tensor, " M"] | None:
    """Where the tokens are that count; None where all do, or where nobody should look."""
    if codes.device.type != "cpu":
        return None
    counted = (codes != IGNORED).nonzero()[:, 0]
    return counted if len(counted) < len(codes) else None


def token_blocks(
    num_tokens: int, counted: Int64[Tensor, " M"] | None, size: int
) -> Iterator[tuple[Rows, slice]]:
    """The rows of each block, `size` or fewer, and their place among all that are in one."""
    for place in chunks(num_tokens if counted is None else len(counted), size):
        yield place if counted is None else counted[place], place


def take(values: Shaped[Tensor, "N ..."], rows: Rows) -> Shaped[Tensor, "T ..."]:
    """Those rows: a view where they are a slice."""
    return values[rows] if isinstance(rows, slice) else values.index_select(0, rows)


def put_(values: Shaped[Tensor, "N ..."], rows: Rows, block: Shaped[Tensor, "T ..."]) -> None:
    """Writes those rows."""
    if isinstance(rows, slice):
        values[rows] = block
    else:
        values.index_copy_(0, rows, block)
