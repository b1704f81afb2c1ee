"""Memory-efficient LM-head loss in JAX: linear projection and softmax cross-entropy."""

from jax_impl.loss import (
    linear_cross_entropy,
    memory_efficient_cross_entropy,
    standard_linear_cross_entropy,
)
from loss_spec import LossAux

__all__ = [
    "LossAux",
    "linear_cross_entropy",
    "memory_efficient_cross_entropy",
    "standard_linear_cross_entropy",
]
