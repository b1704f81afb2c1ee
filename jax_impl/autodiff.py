"""How JAX differentiates the two strategies: by rules of their own, once, in reverse.

Differentiating the forward's scan would keep the logits of every chunk, and take more
memory than the full-logits loss.
"""

from __future__ import annotations

import functools
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int32

from jax_impl.config import Config
from jax_impl.one_pass import one_pass_forward
from jax_impl.reduction import reduce_losses
from jax_impl.statistics import Statistics
from jax_impl.two_pass import two_pass_backward, two_pass_forward
from loss_spec import Needs


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def two_pass(
    config: Config,
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    class_weight: Float[Array, " V"] | None,
    codes: Int32[Array, " N"],
) -> tuple[Float[Array, " N"], Statistics]:
    """Loss of each token, and the statistics of its logits, which are constants."""
    return two_pass_forward(config, hidden, weight, bias, class_weight, codes)


def _two_pass_fwd(config: Config, *inputs: Any) -> tuple[Any, Any]:
    marks, arrays = _marks_and_arrays(inputs)
    # Not two_pass_forward: `jax.checkpoint` would look into its loops, and keep every slice
    # of the weight. Into a custom_vjp it does not look.
    losses, statistics = two_pass(config, *arrays)
    return (losses, statistics), (marks, arrays, statistics)


def _two_pass_bwd(config: Config, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    marks, (hidden, weight, bias, class_weight, codes), statistics = residuals
    cotangent, _ = cotangents
    if isinstance(cotangent, SymbolicZero):
        return (None,) * 5
    hidden, weight, bias, cotangent = _once_differentiable((hidden, weight, bias, cotangent))
    arrays = hidden, weight, bias, class_weight, codes
    gradients = two_pass_backward(config, _needs(marks), *arrays, statistics, cotangent)
    return *gradients, None, None


two_pass.defvjp(_two_pass_fwd, _two_pass_bwd, symbolic_zeros=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def one_pass(
    config: Config,
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    class_weight: Float[Array, " V"] | None,
    token_weight: Float[Array, " N"] | None,
    codes: Int32[Array, " N"],
) -> tuple[Float[Array, ""], Statistics]:
    """The sum or mean, and the statistics of each token, which are constants.

    Where nobody differentiates it is the forward of `two_pass`, and no more.
    """
    losses, statistics = two_pass_forward(config, hidden, weight, bias, class_weight, codes)
    return reduce_losses(losses, codes, class_weight, token_weight, config.reduction), statistics


def _one_pass_fwd(config: Config, *inputs: Any) -> tuple[Any, Any]:
    marks, arrays = _marks_and_arrays(inputs)
    loss, statistics, sums, scale = _gradients_at_once(config, _needs(marks), *arrays)
    # One tree whatever is needed, for the reason that `_marks_and_arrays` has.
    sums = tuple(jnp.zeros(0, scale.dtype) if array is None else array for array in sums)
    dtype_of_inputs = jnp.zeros(0, arrays[0].dtype)
    return (loss, statistics), (marks, sums, scale, dtype_of_inputs)


def _one_pass_bwd(config: Config, residuals: Any, cotangents: Any) -> tuple[Any, ...]:
    marks, sums, scale, like = residuals
    cotangent, _ = cotangents
    if isinstance(cotangent, SymbolicZero):
        return (None,) * 6
    *sums, cotangent = _once_differentiable((*sums, cotangent))
    factor = cotangent * scale
    gradients = (
        (array * factor).astype(like.dtype) if need else None
        for array, need in zip(sums, _needs(marks), strict=True)
    )
    return *gradients, None, None, None


one_pass.defvjp(_one_pass_fwd, _one_pass_bwd, symbolic_zeros=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _gradients_at_once(config: Config, needs: Needs, *arrays: Any) -> Any:
    """`one_pass_forward`, where `jax.checkpoint` cannot look into it."""
    return one_pass_forward(config, needs, *arrays)


def _marks_and_arrays(inputs: tuple[Any, ...]) -> tuple[Any, Any]:
    """Which of hidden, weight and bias somebody differentiates in, and all the arrays.

    With symbolic_zeros every argument says so. The rule for the backward hears of it by
    the shapes of marks: what is static in the residuals' tree is taken from the newest
    trace of the forward, which may be that of another derivative.
    """
    marks = tuple(
        jnp.zeros(int(array is not None and array.perturbed), bool) for array in inputs[:3]
    )
    return marks, tuple(None if array is None else array.value for array in inputs)


def _needs(marks: tuple[Array, ...]) -> Needs:
    return Needs(*(len(mark) == 1 for mark in marks))


def _refuse_second_derivative(*_: Any) -> NoReturn:
    raise TypeError(
        "linear_cross_entropy: second derivatives are not supported; "
        "use standard_linear_cross_entropy"
    )


_gradients_at_once.defvjp(_refuse_second_derivative, _refuse_second_derivative)


@jax.custom_jvp
def _once_differentiable(arrays: Any) -> Any:
    return arrays


_once_differentiable.defjvp(_refuse_second_derivative)
