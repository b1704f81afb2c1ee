"""Per-token losses to the loss that is returned."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torch_impl.labels import IGNORED


def reduce_losses(
    losses: Float[Tensor, " N"],
    codes: Int64[Tensor, " N"],
    class_weight: Float[Tensor, " V"] | None,
    token_weight: Float[Tensor, " N"] | None,
    reduction: str,
) -> Float[Tensor, "..."]:
    """The weighted sum, the weighted mean, or the weighted losses.

    Ignored tokens have loss 0, whatever their weight. Where every token is ignored or
    has weight 0 the mean is 0, not 0 / 0: such a batch must not poison a training run.
    """
    if token_weight is not None:
        losses = losses * token_weight.masked_fill(codes == IGNORED, 0)
    if reduction == "none":
        return losses
    total = losses.sum()
    if reduction == "sum":
        return total
    return total / _denominator(codes, class_weight, token_weight, total.dtype)


def token_shares(
    codes: Int64[Tensor, " N"],
    class_weight: Float[Tensor, " V"] | None,
    token_weight: Float[Tensor, " N"] | None,
    reduction: str,
    dtype: torch.dtype,
) -> Float[Tensor, " N"]:
    """The derivative of the sum or mean in the loss of each token."""
    if token_weight is None:
        weights = torch.ones(len(codes), dtype=dtype, device=codes.device)
    else:
        weights = token_weight
    if reduction == "mean":
        weights = weights / _denominator(codes, class_weight, token_weight, dtype)
    return weights.masked_fill(codes == IGNORED, 0)


def _denominator(
    codes: Int64[Tensor, " N"],
    class_weight: Float[Tensor, " V"] | None,
    token_weight: Float[Tensor, " N"] | None,
    dtype: torch.dtype,
) -> Float[Tensor, ""]:
    """Of the mean: the weight of all tokens that count, 1 where there is none."""
    counted = codes != IGNORED
    if token_weight is not None:
        token_weight = token_weight.masked_fill(~counted, 0)
        counted = counted & (token_weight != 0)
    # Counted in integers: float32 stops counting at 2^24.
    num_tokens = counted.sum()
    if class_weight is None and token_weight is None:
        return num_tokens.clamp_min(1).to(dtype)
    weights = counted.to(dtype) if token_weight is None else token_weight
    if class_weight is not None:
        weights = (weights * class_weight[codes.clamp_min(0)]).masked_fill(~counted, 0)
    return weights.sum().masked_fill(num_tokens == 0, 1)
