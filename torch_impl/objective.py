"""The loss of a token from the statistics of its logits, and the gradient of its logits.

    loss    = label_weight * (lse - z_y)
              + (eps / V) * sum_v class_weight_v * (lse - z_v) + z_loss * lse ** 2
    dloss_v = mass * softmax(z)_v - label_weight * [v = y] - (eps / V) * class_weight_v

with eps = label_smoothing, label_weight = (1 - eps) * class_weight_y and
mass = label_weight + (eps / V) * sum_v class_weight_v + 2 * z_loss * lse.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from loss_spec import Objective
from torch_impl.labels import IGNORED, OUT_OF_RANGE, label_column
from torch_impl.statistics import Statistics
from torch_impl.tokens import Rows, take


def token_losses(
    objective: Objective,
    statistics: Statistics,
    codes: Int64[Tensor, " N"],
    class_weight: Float[Tensor, " V"] | None,
    vocab_size: int,
) -> Float[Tensor, " N"]:
    """Loss of each token: 0 where ignored, NaN where the label is out of range."""
    eps, factor = objective.label_smoothing, objective.logit_factor
    label_weight = _label_weight(objective, codes, class_weight)
    losses = -label_weight * statistics.label_log_prob(factor)
    if statistics.weighted_sum is not None:
        losses += eps * _mean_weight(class_weight) * statistics.exp_sum.log()
        losses -= eps * factor / vocab_size * statistics.weighted_sum
    if objective.z_loss:
        losses += objective.z_loss * statistics.logsumexp(factor) ** 2
    return losses.masked_fill_(codes == OUT_OF_RANGE, torch.nan).masked_fill_(codes == IGNORED, 0)


class Coefficients(NamedTuple):
    """What the parts of each token's logit gradient are multiplied by."""

    exponential: Float[Tensor, " N"]
    """of exp(z_v - shift)"""
    label: Float[Tensor, " N"]
    """of [v = y], subtracted"""
    smoothing: Float[Tensor, " N"] | None
    """of class_weight_v, subtracted"""

    def rows(self, tokens: Rows) -> Coefficients:
        """Some rows: views where they are a slice."""
        return Coefficients._make(None if rows is None else take(rows, tokens) for rows in self)


def gradient_coefficients(
    objective: Objective,
    statistics: Statistics,
    codes: Int64[Tensor, " N"],
    class_weight: Float[Tensor, " V"] | None,
    vocab_size: int,
    cotangent: Float[Tensor, " N"],
) -> Coefficients:
    """Times logit_scale, so for the bare products; 0 where ignored, NaN where out of range."""
    eps = objective.label_smoothing
    label = _label_weight(objective, codes, class_weight)
    mass = label
    if eps:
        mass = mass + eps * _mean_weight(class_weight)
    if objective.z_loss:
        mass = mass + 2 * objective.z_loss * statistics.logsumexp(objective.logit_factor)
    row = (cotangent * objective.logit_scale).masked_fill_(codes == OUT_OF_RANGE, torch.nan)

    def of_counted(values: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        # Selected, not multiplied: a NaN of an ignored token must not count.
        return values.masked_fill_(codes == IGNORED, 0)

    return Coefficients(
        exponential=of_counted(row * mass / statistics.exp_sum),
        label=of_counted(row * label),
        smoothing=of_counted(row * (eps / vocab_size)) if eps else None,
    )


def logit_gradient_(
    exponential: Float[Tensor, "T C"],
    slope: Float[Tensor, "T C"] | None,
    codes: Int64[Tensor, " T"],
    vocab: slice,
    class_weight: Float[Tensor, " C"] | None,
    coefficients: Coefficients,
) -> Float[Tensor, "T C"]:
    """The gradient of a tile of bare products, in place of `exp(z - shift)`.

    `slope` is the derivative of a softcap.
    """
    gradient = exponential.mul_(coefficients.exponential[:, None])
    column, is_here = label_column(codes, vocab)
    at_label = gradient.gather(1, column) - (coefficients.label * is_here)[:, None]
    gradient.scatter_(1, column, at_label)
    if coefficients.smoothing is not None:
        smoothing = coefficients.smoothing[:, None]
        if class_weight is None:
            gradient.sub_(smoothing)
        else:
            gradient.addcmul_(smoothing, class_weight, value=-1)
    return gradient if slope is None else gradient.mul_(slope)


def power_of_two(*coefficients: Tensor | None) -> Float[Tensor, ""]:
    """The size of the largest of some coefficients as a power of two.

    Taken out before the logit gradient is rounded to 16 bits and put back in the
    float32 sums: a mean over many tokens scales by 1/N, and float16 has no room for
    a probability times that. A power of two, so that both steps are exact.
    """
    rows = torch.stack([rows.abs() for rows in coefficients if rows is not None])
    if rows.numel() == 0:
        return rows.new_ones(())
    largest = rows.amax()
    exponent = torch.frexp(torch.where(largest.isfinite(), largest, 1))[1]
    # Less one: 2^128 is no float32.
    return torch.ldexp(torch.ones_like(largest), exponent - 1)


def _label_weight(
    objective: Objective, codes: Int64[Tensor, " N"], class_weight: Float[Tensor, " V"] | None
) -> Float[Tensor, " N"] | float:
    share = 1 - objective.label_smoothing
    return share if class_weight is None else share * class_weight[codes.clamp_min(0)]


def _mean_weight(class_weight: Float[Tensor, " V"] | None) -> Tensor | float:
    return 1.0 if class_weight is None else class_weight.mean()
