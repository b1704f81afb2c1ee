"""An online softmax: what the loss must know of a row of logits, chunk by chunk.

Everything is kept relative to the largest logit seen so far, so that logits of 1e4
cost no digits: their differences are exact where the logits themselves are.
After Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from jax_impl.chunks import Chunk
from jax_impl.labels import is_label


class Statistics(NamedTuple):
    """Of the classes seen so far, for each of T rows of logits z."""

    maximum: Float[Array, " T"]
    """max_v z_v; -inf before the first chunk"""
    exp_sum: Float[Array, " T"]
    """sum_v exp(z_v - shift)"""
    label_logit: Float[Array, " T"]
    """z_y, 0 before it is seen"""
    weighted_sum: Float[Array, " T"] | None
    """sum_v class_weight_v * (z_v - shift), for label smoothing"""
    prediction: Int32[Array, " T"] | None
    """the first class with the largest logit, if somebody asked"""

    @property
    def shift(self) -> Float[Array, " T"]:
        """The maximum, but 0 where every class is masked by -inf: no inf - inf."""
        return jnp.where(self.maximum == -jnp.inf, 0, self.maximum)

    @property
    def label_log_prob(self) -> Float[Array, " T"]:
        """z_y - logsumexp, by differences of logits alone."""
        return (self.label_logit - self.shift) - jnp.log(self.exp_sum)

    @property
    def logsumexp(self) -> Float[Array, " T"]:
        return self.shift + jnp.log(self.exp_sum)


def start_statistics(
    num_tokens: int, dtype: jnp.dtype, *, weighted_sum: bool, prediction: bool
) -> Statistics:
    zeros = jnp.zeros(num_tokens, dtype)
    return Statistics(
        maximum=zeros - jnp.inf,
        exp_sum=zeros,
        label_logit=zeros,
        weighted_sum=zeros if weighted_sum else None,
        prediction=jnp.zeros(num_tokens, jnp.int32) if prediction else None,
    )


def update_statistics(
    seen: Statistics,
    seen_weight: Float[Array, ""],
    logits: Float[Array, "T C"],
    codes: Int32[Array, " T"],
    vocab: Chunk,
    class_weight: Float[Array, " C"] | None,
) -> tuple[Statistics, Float[Array, ""]]:
    """With the columns of one more chunk, less those that came before.

    `seen_weight` is the class weight of all columns seen; only label smoothing reads it.
    """
    # -inf counts nothing in a maximum and in a sum of exponentials.
    fresh_logits = jnp.where(vocab.fresh(), logits, -jnp.inf) if vocab.is_ragged else logits
    maximum = jnp.maximum(seen.maximum, jnp.max(fresh_logits, axis=1))
    shift = seen._replace(maximum=maximum).shift
    exp_sum = seen.exp_sum * jnp.exp(seen.maximum - shift)
    exp_sum += jnp.sum(jnp.exp(fresh_logits - shift[:, None]), axis=1)
    label_logit = seen.label_logit + jnp.sum(jnp.where(is_label(codes, vocab), logits, 0), axis=1)

    weighted_sum = seen.weighted_sum
    if weighted_sum is not None:
        weights = jnp.ones(vocab.size, shift.dtype) if class_weight is None else class_weight
        terms = weights * (logits - shift[:, None])
        if vocab.is_ragged:
            weights = jnp.where(vocab.fresh(), weights, 0)
            terms = jnp.where(vocab.fresh(), terms, 0)
        weighted_sum += seen_weight * (seen.shift - shift) + jnp.sum(terms, axis=1)
        seen_weight += jnp.sum(weights)

    prediction = seen.prediction
    if prediction is not None:
        column = vocab.start + jnp.argmax(fresh_logits, axis=1).astype(jnp.int32)
        prediction = jnp.where(maximum > seen.maximum, column, prediction)
    statistics = Statistics(maximum, exp_sum, label_logit, weighted_sum, prediction)
    return statistics, seen_weight
