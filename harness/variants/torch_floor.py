"""The floor in PyTorch."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def three_matmuls(
    hidden: Float[Tensor, "N D"], weight: Float[Tensor, "V D"]
) -> tuple[Float[Tensor, "N D"], Float[Tensor, "V D"]]:
    """Logits, then the two gradient products with the logits in the gradient's place."""
    logits = hidden @ weight.t()
    return logits @ weight, logits.t() @ hidden
