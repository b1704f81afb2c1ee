"""Per-token losses to the loss that is returned."""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor

from torch_impl.labels import IGNORED


def reduce_losses(
    losses: Float[Tensor, " N"],
    codes: Int64[Tensor, " N"],
    token_shape: tuple[int, ...],
    reduction: str,
) -> Float[Tensor, "..."]:
    """The sum, the mean over tokens not ignored, or the losses in the shape of labels.

    Ignored tokens have loss 0. With none left the mean is 0, not 0 / 0: such a batch
    must not poison a training run.
    """
    if reduction == "none":
        return losses.reshape(token_shape)
    total = losses.sum()
    if reduction == "sum":
        return total
    # Counted in integers: float32 stops counting at 2^24.
    num_tokens = (codes != IGNORED).sum()
    return total / num_tokens.clamp_min(1).to(total.dtype)
