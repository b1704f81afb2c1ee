"""What is said about the tokens that have no answer."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from jax_impl.labels import IGNORED, OUT_OF_RANGE
from loss_spec import LossAux


def make_aux(
    logsumexp: Float[Array, " N"],
    log_prob: Float[Array, " N"],
    prediction: Int32[Array, " N"],
    codes: Int32[Array, " N"],
    token_shape: tuple[int, ...],
) -> LossAux[Array]:
    """In the shape of labels; 0, 0 and -1 where ignored; constants under differentiation."""
    ignored = codes == IGNORED
    log_prob = jnp.where(codes == OUT_OF_RANGE, jnp.nan, log_prob)
    aux = LossAux(
        logsumexp=jnp.where(ignored, 0, logsumexp).reshape(token_shape),
        log_prob=jnp.where(ignored, 0, log_prob).reshape(token_shape),
        prediction=jnp.where(ignored, -1, prediction).reshape(token_shape),
        num_tokens=jnp.sum(~ignored, dtype=jnp.int32),
    )
    return lax.stop_gradient(aux)
