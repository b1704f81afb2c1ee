"""The baseline: full logits, differentiated by JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from jax_impl.labels import IGNORED, OUT_OF_RANGE
from jax_impl.matmul import matmul


def standard(
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    codes: Int32[Array, " N"],
    *,
    vocab_axis: int,
    precision: lax.PrecisionLike,
) -> Float[Array, " N"]:
    """Loss of each token: 0 where ignored, NaN where the label is out of range.

    The logits leave the matmul as float32, and so does their gradient enter the two
    others: more exact in 16 bits, and slower, than a model that rounds its logits.
    """
    logits = matmul(hidden, weight, contract=(1, 1 - vocab_axis), precision=precision)
    if bias is not None:
        logits += bias.astype(logits.dtype)
    label = jnp.maximum(codes, 0)[:, None]
    label_logit = jnp.take_along_axis(logits, label, axis=1)[:, 0]
    losses = jax.nn.logsumexp(logits, axis=1) - label_logit
    losses = jnp.where(codes == IGNORED, 0, losses)
    # Multiplied, not selected: the NaN must reach the gradients as well.
    return losses * jnp.where(codes == OUT_OF_RANGE, jnp.nan, 1).astype(losses.dtype)
