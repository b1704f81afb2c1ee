"""Per-token losses to the loss that is returned."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from jax_impl.labels import IGNORED


def reduce_losses(
    losses: Float[Array, " N"],
    codes: Int32[Array, " N"],
    token_shape: tuple[int, ...],
    reduction: str,
) -> Float[Array, "..."]:
    """The sum, the mean over tokens not ignored, or the losses in the shape of labels.

    Ignored tokens have loss 0. With none left the mean is 0, not 0 / 0: such a batch
    must not poison a training run.
    """
    if reduction == "none":
        return losses.reshape(token_shape)
    total = jnp.sum(losses)
    if reduction == "sum":
        return total
    # Counted in integers: float32 stops counting at 2^24.
    num_tokens = jnp.sum(codes != IGNORED, dtype=jnp.int32)
    return total / jnp.maximum(num_tokens, 1).astype(total.dtype)
