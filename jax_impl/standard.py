"""The baseline: full logits, differentiated by JAX."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from jax_impl.labels import IGNORED, OUT_OF_RANGE
from jax_impl.logits import scores_of
from loss_spec import Objective


def standard(
    objective: Objective,
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    class_weight: Float[Array, " V"] | None,
    codes: Int32[Array, " N"],
    *,
    vocab_axis: int,
    precision: lax.PrecisionLike,
) -> tuple[Float[Array, " N"], Float[Array, " N"], Float[Array, " N"], Float[Array, "N V"]]:
    """Loss of each token, logsumexp, log-probability of the label, and the logits.

    The loss is 0 where a token is ignored and NaN where its label is out of range. The
    logits leave the matmul as float32, and so does their gradient enter the two others:
    more exact in 16 bits, and slower, than a model that rounds its logits.
    """
    logits = objective.logit_factor * scores_of(
        objective, hidden, weight, bias, vocab_axis=vocab_axis, precision=precision
    )
    label = jnp.maximum(codes, 0)
    maximum = lax.stop_gradient(jnp.max(logits, axis=1))
    shifted = logits - maximum[:, None]
    log_total = jnp.log(jnp.sum(jnp.exp(shifted), axis=1))
    log_prob = jnp.take_along_axis(shifted, label[:, None], axis=1)[:, 0] - log_total
    logsumexp = maximum + log_total

    eps = objective.label_smoothing
    losses = -(1 - eps) * log_prob
    if class_weight is not None:
        losses *= class_weight[label]
    if eps:
        smoothed = log_total[:, None] - shifted
        if class_weight is not None:
            smoothed *= class_weight
        losses += eps * jnp.mean(smoothed, axis=1)
    if objective.z_loss:
        losses += objective.z_loss * logsumexp**2
    losses = jnp.where(codes == IGNORED, 0, losses)
    # Multiplied, not selected: the NaN must reach the gradients as well.
    losses *= jnp.where(codes == OUT_OF_RANGE, jnp.nan, 1).astype(losses.dtype)
    return losses, logsumexp, log_prob, logits
