"""How JAX differentiates the two-pass loss: by a rule of its own, once, in reverse.

Differentiating the forward's scan would keep the logits of every chunk, and take more
memory than the full-logits loss.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int32

from jax_impl.statistics import Statistics
from jax_impl.two_pass import Needs, TwoPass, two_pass_backward, two_pass_forward


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def two_pass(
    config: TwoPass,
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    class_weight: Float[Array, " V"] | None,
    codes: Int32[Array, " N"],
) -> tuple[Float[Array, " N"], Statistics]:
    """Loss of each token, and the statistics of its logits, which are constants."""
    return two_pass_forward(config, hidden, weight, bias, class_weight, codes)


def _two_pass_fwd(config: TwoPass, *inputs: Any) -> tuple[Any, Any]:
    # With symbolic_zeros every argument says whether anything depends on its gradient. The
    # rule for the backward hears of it by shapes: what is static in the residuals' tree is
    # taken from the newest trace of the forward, which may be that of another derivative.
    needs = tuple(
        jnp.zeros(int(array is not None and array.perturbed), bool) for array in inputs[:3]
    )
    arrays = tuple(None if array is None else array.value for array in inputs)
    # Not two_pass_forward: `jax.checkpoint` would look into its loops, and keep every slice
    # of the weight. Into a custom_vjp it does not look.
    losses, statistics = two_pass(config, *arrays)
    return (losses, statistics), (needs, arrays, statistics)


def _two_pass_bwd(config: TwoPass, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    marks, (hidden, weight, bias, class_weight, codes), statistics = residuals
    needs = Needs(*(len(mark) == 1 for mark in marks))
    cotangent, _ = cotangents
    if isinstance(cotangent, SymbolicZero):
        return None, None, None, None, None
    hidden, weight, bias, cotangent = _once_differentiable((hidden, weight, bias, cotangent))
    arrays = hidden, weight, bias, class_weight, codes
    return *two_pass_backward(config, needs, *arrays, statistics, cotangent), None, None


two_pass.defvjp(_two_pass_fwd, _two_pass_bwd, symbolic_zeros=True)


@jax.custom_jvp
def _once_differentiable(arrays: Any) -> Any:
    return arrays


@_once_differentiable.defjvp
def _refuse_second_derivative(primals: Any, tangents: Any) -> Any:
    raise TypeError(
        "linear_cross_entropy: second derivatives are not supported; "
        "use standard_linear_cross_entropy"
    )
