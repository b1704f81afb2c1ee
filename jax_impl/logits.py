"""From the bare product to the logits: the bias, the scale, the softcap."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jax_impl.matmul import matmul
from loss_spec import Objective


def capped_logits(
    objective: Objective,
    hidden: Float[Array, "T D"],
    weight: Float[Array, "C D"] | Float[Array, "D C"],
    bias: Float[Array, " C"] | None,
    *,
    vocab_axis: int,
    precision: lax.PrecisionLike,
) -> tuple[Float[Array, "T C"], Float[Array, "T C"] | None]:
    """The logits, and the derivative of their softcap (None without one).

        z     = logit_scale * (hidden . weight + bias)
        slope = 1 - tanh(z / logit_softcap) ** 2
        z     = logit_softcap * tanh(z / logit_softcap)

    Nothing is masked in here: the softcap would make a finite logit of -inf.
    """
    logits = matmul(hidden, weight, contract=(1, 1 - vocab_axis), precision=precision)
    if bias is not None:
        logits += bias.astype(logits.dtype)
    if objective.logit_scale != 1.0:
        logits *= objective.logit_scale
    if objective.logit_softcap is None:
        return logits, None
    tanh = jnp.tanh(logits / objective.logit_softcap)
    # As a product: 1 - tanh ** 2 rounds away what is left of the slope near the cap.
    return objective.logit_softcap * tanh, (1 - tanh) * (1 + tanh)
