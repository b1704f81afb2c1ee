"""The arguments of a call, checked, and in the form in which the loops take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int32

from jax_impl.labels import check_labels, encode_labels
from jax_impl.matmul import accumulation_dtype
from loss_spec import ArraySpec, LossOptions, Problem, check_arrays


class Arrays(NamedTuple):
    """The arguments as the implementations take them: tokens flat, labels as codes."""

    hidden: Float[Array, "N D"]
    weight: Float[Array, "V D"] | Float[Array, "D V"]
    codes: Int32[Array, " N"]
    bias: Float[Array, " V"] | None
    class_weight: Float[Array, " V"] | None
    token_weight: Float[Array, " N"] | None


def check_arguments(
    hidden: Any,
    weight: Any,
    labels: Any,
    bias: Any,
    class_weight: Any,
    token_weight: Any,
    options: LossOptions,
) -> tuple[Arrays, Problem]:
    """The checked arguments, and the sizes that they agree on."""
    hidden, weight = _array("hidden", hidden), _array("weight", weight)
    labels = _array("labels", labels, _not_narrowed)
    optional = {"bias": bias, "class_weight": class_weight, "token_weight": token_weight}
    bias, class_weight, token_weight = (
        None if value is None else _array(name, value) for name, value in optional.items()
    )
    arrays_ = hidden, weight, labels, bias, class_weight, token_weight
    problem = problem_of(*arrays_, options)
    check_labels(labels, problem.vocab_size, options.ignore_index)
    dtype = accumulation_dtype(hidden.dtype)

    def constant(array: Any) -> Any:
        return None if array is None else lax.stop_gradient(array.reshape(-1).astype(dtype))

    arrays = Arrays(
        hidden=hidden.reshape(problem.num_tokens, problem.hidden_dim),
        weight=weight,
        codes=encode_labels(labels.reshape(-1), problem.vocab_size, options.ignore_index),
        bias=bias,
        class_weight=constant(class_weight),
        token_weight=constant(token_weight),
    )
    return arrays, problem


def _array(name: str, value: Any, as_array: Callable[[Any], Any] = jnp.asarray) -> Any:
    if isinstance(value, jax.Array):
        return value
    try:
        return as_array(value)
    except (TypeError, ValueError, OverflowError) as error:
        dtype = f" of dtype {value.dtype.name}" if isinstance(value, np.ndarray) else ""
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}{dtype}") from error


def _not_narrowed(labels: Any) -> Any:
    """In NumPy, if they are not JAX's already: without x64 it would cut 64 bits to 32."""
    if hasattr(labels, "__jax_array__"):
        return jnp.asarray(labels)
    array = np.asarray(labels)
    if array.dtype.kind in "OSU":
        raise TypeError(f"no array of numbers: {array.dtype.name}")
    return array


def problem_of(
    hidden: Any,
    weight: Any,
    labels: Any,
    bias: Any,
    class_weight: Any,
    token_weight: Any,
    options: LossOptions,
) -> Problem:
    return check_arrays(
        hidden=_spec(hidden),
        weight=_spec(weight),
        labels=_spec(labels),
        bias=_spec(bias),
        class_weight=_spec(class_weight),
        token_weight=_spec(token_weight),
        vocab_axis=options.vocab_axis,
    )


def _spec(array: Any) -> Any:
    return None if array is None else ArraySpec(array.shape, array.dtype.name)
