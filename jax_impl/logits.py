"""From the bare product to the scores, which are the logits but for a constant factor."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from jax_impl.matmul import matmul
from loss_spec import Objective


def scores_of(
    objective: Objective,
    hidden: Float[Array, "T D"],
    weight: Float[Array, "C D"] | Float[Array, "D C"],
    bias: Float[Array, " C"] | None,
    *,
    vocab_axis: int,
    precision: lax.PrecisionLike,
) -> Float[Array, "T C"]:
    """The scores u of a tile, of which the logits are `objective.logit_factor * u`.

        p = hidden . weight + bias
        u = sign(logit_scale) * p                         without a softcap
        u = tanh(logit_scale * p / logit_softcap)         with one

    Nothing is masked in here: the softcap would make a finite logit of -inf.
    """
    scores = matmul(hidden, weight, contract=(1, 1 - vocab_axis), precision=precision)
    if bias is not None:
        scores += bias.astype(scores.dtype)
    if objective.logit_softcap is not None:
        return jnp.tanh(scores * (objective.logit_scale / objective.logit_softcap))
    sign = float(np.sign(objective.logit_scale))
    return scores if sign == 1.0 else scores * sign


def cap_slope(scores: Float[Array, "T C"]) -> Float[Array, "T C"]:
    """The derivative of the softcap, `1 - tanh ** 2`, from capped scores.

    As a product: 1 - tanh ** 2 rounds away what is left of it near the cap.
    """
    return (1 - scores) * (1 + scores)
