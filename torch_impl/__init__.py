"""Memory-efficient LM-head loss in PyTorch: linear projection and softmax cross-entropy."""

from loss_spec import LossAux, Plan
from torch_impl.causal_lm import causal_lm_loss
from torch_impl.loss import (
    linear_cross_entropy,
    memory_efficient_cross_entropy,
    plan,
    standard_linear_cross_entropy,
)
from torch_impl.module import LinearCrossEntropyLoss

__all__ = [
    "LinearCrossEntropyLoss",
    "LossAux",
    "Plan",
    "causal_lm_loss",
    "linear_cross_entropy",
    "memory_efficient_cross_entropy",
    "plan",
    "standard_linear_cross_entropy",
]
