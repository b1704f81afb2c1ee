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
    reduction: str,
) -> Float[Array, "..."]:
    """The weighted sum, the weighted mean, or the weighted losses.

    Ignored tokens have loss 0, whatever their weight. Where every token is ignored or
    has weight 0 the mean is 0, not 0 / 0: such a batch must not poison a training run.
    """
    if token_weight is not None:
        losses *= jnp.where(codes == IGNORED, 0, token_weight)
    if reduction == "none":
        return losses
    total = jnp.sum(losses)
    if reduction == "sum":
        return total
    return total / _denominator(codes, class_weight, token_weight, total.dtype)


def token_shares(
    codes: Int32[Array, " N"],
    class_weight: Float[Array, " V"] | None,
    token_weight: Float[Array, " N"] | None,
    reduction: str,
    dtype: jnp.dtype,
) -> Float[Array, " N"]:
    """The derivative of the sum or mean in the loss of each token."""
    weights = jnp.ones((), dtype) if token_weight is None else token_weight
    if reduction == "mean":
        weights /= _denominator(codes, class_weight, token_weight, dtype)
    return jnp.where(codes == IGNORED, 0, weights)


def _denominator(
    codes: Int32[Array, " N"],
    class_weight: Float[Array, " V"] | None,
    token_weight: Float[Array, " N"] | None,
    dtype: jnp.dtype,
) -> Float[Array, ""]:
    """Of the mean: the weight of all tokens that count, 1 where there is none."""
    counted = codes != IGNORED
    if token_weight is not None:
        token_weight = jnp.where(counted, token_weight, 0)
        counted &= token_weight != 0
    # Counted in integers: float32 stops counting at 2^24.
    num_tokens = jnp.sum(counted, dtype=jnp.int32)
    weights = token_weight
    if class_weight is not None:
        weights = class_weight[jnp.maximum(codes, 0)]
        weights = jnp.where(counted, weights if token_weight is None else weights * token_weight, 0)
    if weights is None:
        return jnp.maximum(num_tokens, 1).astype(dtype)
    return jnp.where(num_tokens > 0, jnp.sum(weights), 1)
