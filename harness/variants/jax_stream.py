"""The stream in JAX."""

from __future__ import annotations

from jaxtyping import Array, Float


def negated_weight(
    hidden: Float[Array, "N D"], weight: Float[Array, "V D"]
) -> tuple[Float[Array, "V D"]]:
    """Every number of the weight read once and written once, into memory of its own.

    Negated, so that the compiler cannot hand back what went in.
    """
    return (-weight,)
