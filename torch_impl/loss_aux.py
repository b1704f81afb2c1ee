"""What is said about the tokens that have no answer."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from loss_spec import LossAux
from torch_impl.labels import IGNORED, OUT_OF_RANGE


def make_aux(
    logsumexp: Float[Tensor, " N"],
    log_prob: Float[Tensor, " N"],
    prediction: Int32[Tensor, " N"],
    codes: Int64[Tensor, " N"],
    token_shape: tuple[int, ...],
) -> LossAux[Tensor]:
    """In the shape of labels; 0, 0 and -1 where ignored; constants under differentiation."""
    ignored = codes == IGNORED
    log_prob = log_prob.detach().masked_fill(codes == OUT_OF_RANGE, torch.nan)
    return LossAux(
        logsumexp=logsumexp.detach().masked_fill(ignored, 0).reshape(token_shape),
        log_prob=log_prob.masked_fill(ignored, 0).reshape(token_shape),
        prediction=prediction.masked_fill(ignored, -1).reshape(token_shape),
        num_tokens=(~ignored).sum(dtype=torch.int32),
    )
