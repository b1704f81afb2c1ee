"""Other people's losses for JAX, called as ours are.

A parameter that is not here is an option that the peer does not have. What is only a
matter of spelling (a transposed weight, flat tokens) is done for it.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp

from harness.targets import load_target
from harness.workload import UnavailableError


def tokamax(
    hidden: jax.Array,
    weight: jax.Array,
    labels: jax.Array,
    *,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> jax.Array:
    """openxla/tokamax, `implementation="chunked_xla"`.

    It says nothing about ignore_index, and treats -100 as a label like any other; that
    is what people have in their batches, so it is called with them.
    """
    if sys.version_info < (3, 12):
        raise UnavailableError("tokamax's chunked_xla needs Python 3.12 or later")
    losses = load_target("tokamax:linear_softmax_cross_entropy_loss")(
        hidden.reshape(-1, hidden.shape[-1]),
        labels.reshape(-1),
        weight if vocab_axis == 1 else weight.T,
        reduction=reduction,
        implementation="chunked_xla",
    )
    return losses.reshape(labels.shape) if reduction == "none" else losses


def optax(
    hidden: jax.Array,
    weight: jax.Array,
    labels: jax.Array,
    *,
    bias: jax.Array | None = None,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> jax.Array:
    """Full logits in the dtype of hidden, to float32, `optax.losses`, masked.

    optax has no reduction and its documentation suggests none; the mean is ours, the
    careful one that is 0 where no token counts.
    """
    cross_entropy = load_target("optax.losses:softmax_cross_entropy_with_integer_labels")
    logits = hidden @ (weight if vocab_axis == 1 else weight.T)
    if bias is not None:
        logits += bias
    if logits.dtype != jnp.float64:
        logits = logits.astype(jnp.float32)
    counted = labels != ignore_index
    losses = cross_entropy(logits, labels, where=counted)
    if reduction == "none":
        return losses
    total = jnp.sum(losses)
    if reduction == "sum":
        return total
    return total / jnp.maximum(jnp.sum(counted), 1).astype(total.dtype)
