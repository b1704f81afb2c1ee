"""From the gradient of a tile to the sums that become the gradients of the inputs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from loss_spec import Needs
from torch_impl.chunks import pieces
from torch_impl.tile import Tiles


class Sums(NamedTuple):
    """In the accumulation dtype; None where a gradient is not needed.

    That of hidden has the tokens of all blocks first, until it is spread.
    """

    hidden: Float[Tensor, "N D"] | None
    weight: Float[Tensor, "V D"] | None
    bias: Float[Tensor, " V"] | None

    def of_classes(self, vocab: slice) -> Sums:
        """Views of what belongs to some classes; hidden belongs to all."""
        weight, bias = (None if rows is None else rows[vocab] for rows in self[1:])
        return Sums(self.hidden, weight, bias)


def add_tile_(
    sums: Sums,
    tiles: Tiles,
    gradient: Float[Tensor, "T C"],
    hidden: Float[Tensor, "T D"],
    weight: Float[Tensor, "C D"],
    rows: slice,
    *,
    is_first: bool,
) -> None:
    """Adds the products of one tile; the first of a weight's chunk starts its sum.

    `rows` are the place of its tokens among all that are in a block.
    """
    if sums.bias is not None:
        sums.bias.add_(gradient.sum(0))
    operand = tiles.operand(gradient)
    if sums.hidden is not None:
        tiles.multiply_into(sums.hidden[rows], operand, weight, accumulate=True)
    if sums.weight is not None:
        tiles.multiply_into(sums.weight, operand.t(), hidden, accumulate=not is_first)


def start_sums(
    needs: Needs, hidden: Tensor, weight: Tensor, dtype: torch.dtype, *, is_empty: bool = False
) -> Sums:
    """The sum of the weight starts with its first tile: zeros only where there is none."""
    make_weight = torch.zeros_like if is_empty else torch.empty_like
    return Sums(
        hidden=torch.zeros_like(hidden, dtype=dtype) if needs.hidden else None,
        # In the strides of weight, or `.grad` would be made from a copy.
        weight=make_weight(weight, dtype=dtype) if needs.weight else None,
        bias=hidden.new_zeros(len(weight), dtype=dtype) if needs.bias else None,
    )


def rounded(total: Tensor, factor: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The gradient that is `factor` times a sum, in its own dtype; the sum, if it is that."""
    is_own_sum = total.dtype == dtype
    gradient = total if is_own_sum else torch.empty_like(total, dtype=dtype)
    return round_into(gradient, total, factor)


def round_into(gradient: Tensor, total: Tensor, factor: Tensor | None) -> Tensor:
    """Writes `factor` times a sum, and leaves the sum as it is; they may be one tensor."""
    if factor is None:
        return gradient if gradient is total else gradient.copy_(total)
    if gradient.dtype == total.dtype:
        return torch.mul(total, factor, out=gradient)
    # In pieces: PyTorch makes the product in the wider dtype first, as large as both.
    for rows in pieces(total):
        gradient[rows] = total[rows] * factor
    return gradient


def spread_(packed: Float[Tensor, "N D"], places: Int64[Tensor, " M"] | None) -> None:
    """Moves the first M rows to their places, which ascend; the others are 0, and stay so.

    In place, since a row never moves up: from the last on, none is written over before it
    has moved.
    """
    if places is None:
        return
    for rows in reversed(list(pieces(packed[: len(places)]))):
        moved = packed[rows].clone()
        packed[rows] = 0
        packed.index_copy_(0, places[rows], moved)
