"""Matrix products that add up, and come out, in at least float32."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from loss_spec.cpu import multiplies_bfloat16


def accumulation_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """float64 for float64, float32 for everything narrower."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def operand_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype in which operands of some dtype are multiplied.

    16-bit ones stay as they are where that is faster, so that they stay on tensor cores;
    on most CPUs it is not, and they are widened tile by tile.
    """
    if jax.default_backend() != "cpu" or (dtype == jnp.bfloat16 and multiplies_bfloat16("jax")):
        return dtype
    return accumulation_dtype(dtype)


def as_operand(array: Float[Array, "..."]) -> Float[Array, "..."]:
    """A tile of hidden or of the weight, in that dtype."""
    return array.astype(operand_dtype(array.dtype))


def matmul(
    left: Float[Array, "a b"],
    right: Float[Array, "c d"],
    *,
    contract: tuple[int, int],
    precision: lax.PrecisionLike,
) -> Float[Array, "rows columns"]:
    """Sums over axis `contract[0]` of left and `contract[1]` of right."""
    return lax.dot_general(
        left,
        right,
        (((contract[0],), (contract[1],)), ((), ())),
        precision=precision,
        preferred_element_type=accumulation_dtype(left.dtype),
    )


def check_precision(precision: Any) -> lax.PrecisionLike:
    """The precision, hashable.

    Raises `ValueError` for one that `lax.dot_general` does not take; its own error would
    come from inside the loops and name no argument.
    """
    if isinstance(precision, (list, tuple)) and len(precision) == 2:
        pair = tuple(precision)
        if all(map(_is_name, pair)) or all(isinstance(one, lax.Precision) for one in pair):
            return pair
    known = lax.Precision, lax.DotAlgorithm, lax.DotAlgorithmPreset
    if precision is None or isinstance(precision, known) or _is_name(precision):
        return precision
    if isinstance(precision, str) and precision in lax.DotAlgorithmPreset.__members__:
        return precision
    raise ValueError(f"precision: expected what jax.lax.dot_general takes, got {precision!r}")


def _is_name(precision: Any) -> bool:
    """Whether it is the name of a `lax.Precision`, of which some have several."""
    try:
        return isinstance(precision, str) and lax.Precision(precision) is not None
    except ValueError:
        return False
