"""Memory-efficient LM-head loss in JAX: linear projection and softmax cross-entropy."""

from jax_impl.loss import (
    linear_cross_entropy,
    memory_efficient_cross_entropy,
    standard_linear_cross_entropy,
)

__all__ = [
    "linear_cross_entropy",
    "memory_efficient_cross_entropy",
    "standard_linear_cross_entropy",
]
