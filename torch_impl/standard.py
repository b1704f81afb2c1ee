"""The baseline: full logits, differentiated by autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from torch_impl.labels import IGNORED, OUT_OF_RANGE
from torch_impl.matmul import accumulation_dtype


def standard(
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    codes: Int64[Tensor, " N"],
) -> Float[Tensor, " N"]:
    """Loss of each token: 0 where ignored, NaN where the label is out of range.

    As everyone writes it: the logits leave `F.linear` in the dtype of hidden and are
    cast to float32 for the softmax.
    """
    logits = F.linear(hidden, weight, bias).to(accumulation_dtype(hidden.dtype))
    losses = F.cross_entropy(logits, codes.clamp_min(0), reduction="none")
    losses = losses.masked_fill(codes == IGNORED, 0)
    # Multiplied, not selected: the NaN must reach the gradients as well.
    return losses * torch.ones_like(losses).masked_fill_(codes == OUT_OF_RANGE, torch.nan)
