"""Matrix products that add up, and come out, in at least float32."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def accumulation_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """float64 for float64, float32 for everything narrower."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def matmul(
    left: Float[Array, "a b"],
    right: Float[Array, "c d"],
    *,
    contract: tuple[int, int],
    precision: lax.PrecisionLike,
) -> Float[Array, "rows columns"]:
    """Sums over axis `contract[0]` of left and `contract[1]` of right.

    16-bit operands stay as they are, so that they stay on tensor cores.
    """
    return lax.dot_general(
        left,
        right,
        (((contract[0],), (contract[1],)), ((), ())),
        precision=precision,
        preferred_element_type=accumulation_dtype(left.dtype),
    )
