"""The loss of a token from the statistics of its logits, and the gradient of its logits.

    loss    = label_weight * (lse - z_y)
              + (eps / V) * sum_v class_weight_v * (lse - z_v) + z_loss * lse ** 2
    dloss_v = mass * softmax(z)_v - label_weight * [v = y] - (eps / V) * class_weight_v

with eps = label_smoothing, label_weight = (1 - eps) * class_weight_y and
mass = label_weight + (eps / V) * sum_v class_weight_v + 2 * z_loss * lse.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

from jax_impl.labels import IGNORED, OUT_OF_RANGE
from jax_impl.logits import cap_slope
from jax_impl.statistics import Statistics, exponential
from loss_spec import Objective


def token_losses(
    objective: Objective,
    statistics: Statistics,
    codes: Int32[Array, " N"],
    class_weight: Float[Array, " V"] | None,
    vocab_size: int,
) -> Float[Array, " N"]:
    """Loss of each token: 0 where ignored, NaN where the label is out of range."""
    eps, factor = objective.label_smoothing, objective.logit_factor
    label_weight = _label_weight(objective, codes, class_weight)
    losses = -label_weight * statistics.label_log_prob(factor)
    if statistics.weighted_sum is not None:
        losses += eps * _mean_weight(class_weight) * jnp.log(statistics.exp_sum)
        losses -= eps * factor / vocab_size * statistics.weighted_sum
    if objective.z_loss:
        losses += objective.z_loss * statistics.logsumexp(factor) ** 2
    losses = jnp.where(codes == OUT_OF_RANGE, jnp.nan, losses)
    return jnp.where(codes == IGNORED, 0, losses)


class Coefficients(NamedTuple):
    """What the parts of each token's logit gradient are multiplied by."""

    exponential: Float[Array, " N"]
    """of exp(z_v - shift)"""
    label: Float[Array, " N"]
    """of [v = y], subtracted"""
    smoothing: Float[Array, " N"] | None
    """of class_weight_v, subtracted"""


def gradient_coefficients(
    objective: Objective,
    statistics: Statistics,
    codes: Int32[Array, " N"],
    class_weight: Float[Array, " V"] | None,
    vocab_size: int,
    cotangent: Float[Array, " N"],
) -> Coefficients:
    """Times logit_scale, so for the bare products; 0 where ignored, NaN where out of range."""
    eps = objective.label_smoothing
    label = _label_weight(objective, codes, class_weight)
    mass = label
    if eps:
        mass += eps * _mean_weight(class_weight)
    if objective.z_loss:
        mass += 2 * objective.z_loss * statistics.logsumexp(objective.logit_factor)
    row = cotangent * objective.logit_scale
    row = jnp.where(codes == OUT_OF_RANGE, jnp.nan, row)

    def of_counted(values: Float[Array, " N"]) -> Float[Array, " N"]:
        # Selected, not multiplied: a NaN of an ignored token must not count.
        return jnp.where(codes == IGNORED, 0, values)

    return Coefficients(
        exponential=of_counted(row * mass / statistics.exp_sum),
        label=of_counted(row * label),
        smoothing=of_counted(row * (eps / vocab_size)) if eps else None,
    )


def logit_gradient(
    objective: Objective,
    scores: Float[Array, "T C"],
    shift: Float[Array, " T"],
    is_label: Bool[Array, "T C"],
    class_weight: Float[Array, " C"] | None,
    coefficients: Coefficients,
) -> Float[Array, "T C"]:
    """The gradient of a tile of bare products, from its scores."""
    gradient = exponential(scores, shift, objective.logit_factor)
    gradient *= coefficients.exponential[:, None]
    gradient -= jnp.where(is_label, coefficients.label[:, None], 0)
    if coefficients.smoothing is not None:
        smoothing = coefficients.smoothing[:, None]
        gradient -= smoothing if class_weight is None else smoothing * class_weight
    return gradient if objective.logit_softcap is None else gradient * cap_slope(scores)


def power_of_two(coefficients: Any) -> Float[Array, ""]:
    """The size of the largest of some coefficients as a power of two.

    Taken out before the logit gradient is rounded to 16 bits and put back in the
    float32 sums: a mean over many tokens scales by 1/N, and float16 has no room for
    a probability times that. A power of two, so that both steps are exact.
    """
    rows = jnp.stack([jnp.abs(rows) for rows in jax.tree.leaves(coefficients)])
    largest = jnp.max(rows, initial=0)
    exponent = jnp.frexp(jnp.where(jnp.isfinite(largest), largest, 1))[1]
    # Less one: 2^128 is no float32.
    return jnp.ldexp(jnp.ones((), largest.dtype), exponent - 1)


def _label_weight(
    objective: Objective, codes: Int32[Array, " N"], class_weight: Float[Array, " V"] | None
) -> Float[Array, " N"] | float:
    share = 1 - objective.label_smoothing
    return share if class_weight is None else share * class_weight[jnp.maximum(codes, 0)]


def _mean_weight(class_weight: Float[Array, " V"] | None) -> Float[Array, ""] | float:
    return 1.0 if class_weight is None else jnp.mean(class_weight)
