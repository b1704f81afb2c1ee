"""Memory-efficient LM-head loss in JAX: linear projection and softmax cross-entropy."""

from jax_impl.loss import (
    linear_cross_entropy,
    memory_efficient_cross_entropy,
    plan,
    standard_linear_cross_entropy,
)
from loss_spec import LossAux, Plan

__all__ = [
    "LossAux",
    "Plan",
    "linear_cross_entropy",
    "memory_efficient_cross_entropy",
    "plan",
    "standard_linear_cross_entropy",
]
