"""Per-token losses to the loss that is returned."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from jax_impl.labels import IGNORED


def reduce_losses(
    losses: Float[Array, " N"],
    codes: Int32[Array, " N"],
    class_weight: Float[Array, " V"] | None,
    token_weight: Float[Array, " N"] | None,
    token_shape: tuple[int, ...],
    reduction: str,
) -> Float[Array, "..."]:
    """The weighted sum, the weighted mean, or the weighted losses in the shape of labels.

    Ignored tokens have loss 0, whatever their weight. Where every token is ignored or
    has weight 0 the mean is 0, not 0 / 0: such a batch must not poison a training run.
    """
    counted = codes != IGNORED
    if token_weight is not None:
        token_weight = jnp.where(counted, token_weight, 0)
        counted &= token_weight != 0
        losses *= token_weight
    if reduction == "none":
        return losses.reshape(token_shape)
    total = jnp.sum(losses)
    if reduction == "sum":
        return total
    # Counted in integers: float32 stops counting at 2^24.
    num_tokens = jnp.sum(counted, dtype=jnp.int32)
    if class_weight is None and token_weight is None:
        return total / jnp.maximum(num_tokens, 1).astype(total.dtype)
    weights = counted.astype(total.dtype) if token_weight is None else token_weight
    if class_weight is not None:
        weights = jnp.where(counted, weights * class_weight[jnp.maximum(codes, 0)], 0)
    return total / jnp.where(num_tokens > 0, jnp.sum(weights), 1)
