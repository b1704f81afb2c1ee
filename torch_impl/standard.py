"""The baseline: full logits, differentiated by autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from loss_spec import Objective
from torch_impl.labels import IGNORED, OUT_OF_RANGE
from torch_impl.matmul import accumulation_dtype


def standard(
    objective: Objective,
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    class_weight: Float[Tensor, " V"] | None,
    codes: Int64[Tensor, " N"],
) -> tuple[Float[Tensor, " N"], Float[Tensor, "N V"]]:
    """Loss of each token, and the logits.

    The loss is 0 where a token is ignored and NaN where its label is out of range. As
    everyone writes it: the logits leave `F.linear` in the dtype of hidden and are cast
    to float32 for all that follows.
    """
    logits = F.linear(hidden, weight, bias).to(accumulation_dtype(hidden.dtype))
    if objective.logit_scale != 1.0:
        logits = objective.logit_scale * logits
    if objective.logit_softcap is not None:
        logits = objective.logit_softcap * torch.tanh(logits / objective.logit_softcap)
    losses = F.cross_entropy(
        logits,
        codes.clamp_min(0),
        weight=class_weight,
        label_smoothing=objective.label_smoothing,
        reduction="none",
    )
    if objective.z_loss:
        losses = losses + objective.z_loss * logits.logsumexp(1) ** 2
    losses = losses.masked_fill(codes == IGNORED, 0)
    # Multiplied, not selected: the NaN must reach the gradients as well.
    losses = losses * torch.ones_like(losses).masked_fill_(codes == OUT_OF_RANGE, torch.nan)
    return losses, logits.detach()
