"""An online softmax: what the loss must know of a row of logits, chunk by chunk.

Everything is kept relative to the largest score seen so far, so that logits of 1e4
cost no digits: differences of scores are exact where the scores themselves are. The
logits are `factor` times the scores (`Objective.logit_factor`).
After Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from jax_impl.chunks import Chunk
from jax_impl.labels import label_column


class Statistics(NamedTuple):
    """Of the classes seen so far, for each of T rows of scores u."""

    maximum: Float[Array, " T"]
    """max_v u_v; -inf before the first chunk"""
    exp_sum: Float[Array, " T"]
    """sum_v exp(factor * (u_v - shift))"""
    label_score: Float[Array, " T"]
    """u_y, 0 before it is seen"""
    weighted_sum: Float[Array, " T"] | None
    """sum_v class_weight_v * (u_v - shift), for label smoothing"""
    prediction: Int32[Array, " T"] | None
    """the first class with the largest score, if somebody asked"""

    @property
    def shift(self) -> Float[Array, " T"]:
        """The maximum, but 0 where every class is masked by -inf: no inf - inf."""
        return jnp.where(self.maximum == -jnp.inf, 0, self.maximum)

    def label_log_prob(self, factor: float) -> Float[Array, " T"]:
        """The label's logit - logsumexp, by differences of scores alone."""
        return factor * (self.label_score - self.shift) - jnp.log(self.exp_sum)

    def logsumexp(self, factor: float) -> Float[Array, " T"]:
        """Of the logits."""
        return factor * self.shift + jnp.log(self.exp_sum)


def exponential(scores: Float[Array, "T C"], shift: Float[Array, " T"], factor: float) -> Array:
    """`exp(factor * (scores - shift))`, exactly 1 where the score is the largest."""
    below = scores - shift[:, None]
    return jnp.exp(below if factor == 1.0 else factor * below)


def start_statistics(
    num_tokens: int, dtype: jnp.dtype, *, weighted_sum: bool, prediction: bool
) -> Statistics:
    zeros = jnp.zeros(num_tokens, dtype)
    return Statistics(
        maximum=zeros - jnp.inf,
        exp_sum=zeros,
        label_score=zeros,
        weighted_sum=zeros if weighted_sum else None,
        prediction=jnp.zeros(num_tokens, jnp.int32) if prediction else None,
    )


def update_statistics(
    factor: float,
    seen: Statistics,
    seen_weight: Float[Array, ""],
    scores: Float[Array, "T C"],
    codes: Int32[Array, " T"],
    vocab: Chunk,
    class_weight: Float[Array, " C"] | None,
) -> tuple[Statistics, Float[Array, ""]]:
    """With the columns of one more chunk.

    `seen_weight` is the class weight of all columns seen; only label smoothing reads it.
    """
    chunk_maximum = jnp.max(scores, axis=1)
    maximum = jnp.maximum(seen.maximum, chunk_maximum)
    shift = seen._replace(maximum=maximum).shift
    exp_sum = seen.exp_sum * jnp.exp(factor * (seen.maximum - shift))
    exp_sum += jnp.sum(exponential(scores, shift, factor), axis=1)
    column, is_here = label_column(codes, vocab)
    label_score = jnp.take_along_axis(scores, column, axis=1)[:, 0]
    label_score = jnp.where(is_here, label_score, seen.label_score)

    weighted_sum = seen.weighted_sum
    if weighted_sum is not None:
        weights = jnp.ones(vocab.size, shift.dtype) if class_weight is None else class_weight
        terms = weights * (scores - shift[:, None])
        weighted_sum += seen_weight * (seen.shift - shift) + jnp.sum(terms, axis=1)
        seen_weight += jnp.sum(weights)

    prediction = seen.prediction
    if prediction is not None:
        column = vocab.start + jnp.argmax(scores, axis=1).astype(jnp.int32)
        # A NaN is the largest, the first of them; as in an argmax of the whole row.
        is_first_nan = jnp.isnan(chunk_maximum) & ~jnp.isnan(seen.maximum)
        is_larger = (chunk_maximum > seen.maximum) | is_first_nan
        prediction = jnp.where(is_larger, column, prediction)
    statistics = Statistics(maximum, exp_sum, label_score, weighted_sum, prediction)
    return statistics, seen_weight
