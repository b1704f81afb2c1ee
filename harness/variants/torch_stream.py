"""The stream in PyTorch."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def negated_weight(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"]
) -> tuple[Float[Tensor, "V D"]]:
    """Every number of the weight read once and written once, into memory of its own.

    Negated, so that what comes out cannot be what went in.
    """
    return (-weight,)
