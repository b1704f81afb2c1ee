"""The floor in JAX."""

from __future__ import annotations

from jaxtyping import Array, Float


def three_matmuls(
    hidden: Float[Array, "N D"], weight: Float[Array, "V D"]
) -> tuple[Float[Array, "N D"], Float[Array, "V D"]]:
    """Logits, then the two gradient products with the logits in the gradient's place."""
    logits = hidden @ weight.T
    return logits @ weight, logits.T @ hidden
