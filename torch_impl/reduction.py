"""Per-token losses to the loss that is returned."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor

from torch_impl.labels import IGNORED


def reduce_losses(
    losses: Float[Tensor, " N"],
    codes: Int64[Tensor, " N"],
    class_weight: Float[Tensor, " V"] | None,
    token_weight: Float[Tensor, " N"] | None,
    token_shape: tuple[int, ...],
    reduction: str,
) -> Float[Tensor, "..."]:
    """The weighted sum, the weighted mean, or the weighted losses in the shape of labels.

    Ignored tokens have loss 0, whatever their weight. Where every token is ignored or
    has weight 0 the mean is 0, not 0 / 0: such a batch must not poison a training run.
    """
    counted = codes != IGNORED
    if token_weight is not None:
        token_weight = token_weight.masked_fill(~counted, 0)
        counted = counted & (token_weight != 0)
        losses = losses * token_weight
    if reduction == "none":
        return losses.reshape(token_shape)
    total = losses.sum()
    if reduction == "sum":
        return total
    # Counted in integers: float32 stops counting at 2^24.
    num_tokens = counted.sum()
    if class_weight is None and token_weight is None:
        return total / num_tokens.clamp_min(1).to(total.dtype)
    weights = counted.to(total.dtype) if token_weight is None else token_weight
    if class_weight is not None:
        weights = (weights * class_weight[codes.clamp_min(0)]).masked_fill(~counted, 0)
    return total / weights.sum().masked_fill(num_tokens == 0, 1)
