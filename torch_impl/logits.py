"""From the bare product to the scores, which are the logits but for a constant factor."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from loss_spec import Objective
from torch_impl.buffers import Buffer
from torch_impl.matmul import matmul_into


def scores_into(
    scores: Float[Tensor, "T C"],
    objective: Objective,
    hidden: Float[Tensor, "T D"],
    weight: Float[Tensor, "C D"],
    bias: Float[Tensor, " C"] | None,
    room: Buffer | None,
) -> None:
    """Writes the scores u of a tile, of which the logits are `objective.logit_factor * u`.

    p = hidden . weight + bias
    u = sign(logit_scale) * p                         without a softcap
    u = tanh(logit_scale * p / logit_softcap)         with one
    """
    matmul_into(scores, hidden, weight.t(), accumulate=False, room=room, exact=True)
    if bias is not None:
        scores.add_(bias)
    if objective.logit_softcap is not None:
        scores.mul_(objective.logit_scale / objective.logit_softcap).tanh_()
    elif (sign := float(np.sign(objective.logit_scale))) != 1.0:
        scores.mul_(sign)


def cap_slope_into(slope: Float[Tensor, "T C"], scores: Float[Tensor, "T C"]) -> None:
    """Writes the derivative of the softcap, `1 - tanh ** 2`, from capped scores.

    As (1 - t) * (1 + t): 1 - t ** 2 rounds away what is left of it near the cap.
    """
    torch.neg(scores, out=slope).add_(1)
    slope.addcmul_(slope, scores)
