"""From the bare product to the logits: the bias, the scale, the softcap."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from loss_spec import Objective
from torch_impl.matmul import matmul_into


def capped_logits_into(
    logits: Float[Tensor, "T C"],
    slope: Float[Tensor, "T C"] | None,
    objective: Objective,
    hidden: Float[Tensor, "T D"],
    weight: Float[Tensor, "C D"],
    bias: Float[Tensor, " C"] | None,
) -> None:
    """Writes the logits, and the derivative of their softcap where there is room for it.

    z     = logit_scale * (hidden . weight + bias)
    slope = 1 - tanh(z / logit_softcap) ** 2
    z     = logit_softcap * tanh(z / logit_softcap)
    """
    matmul_into(logits, hidden, weight.t(), accumulate=False)
    if bias is not None:
        logits.add_(bias)
    if objective.logit_softcap is None:
        if objective.logit_scale != 1.0:
            logits.mul_(objective.logit_scale)
        return
    tanh = logits.mul_(objective.logit_scale / objective.logit_softcap).tanh_()
    if slope is not None:
        # As (1 - t) * (1 + t): 1 - t ** 2 rounds away what is left of it near the cap.
        torch.neg(tanh, out=slope).add_(1)
        slope.addcmul_(slope, tanh)
    logits.mul_(objective.logit_softcap)
