"""A JAX loss, called with NumPy arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.conformance.problem import Problem
from loss_spec.reference import Array

Target = Callable[..., Any]


def settings() -> contextlib.AbstractContextManager[None]:
    """JAX as it comes: what a peer makes of it is its own affair."""
    return contextlib.nullcontext()


def call(target: Target, *arrays: Any, **options: Any) -> Any:
    """What the target returns; every array may be among the options as well."""
    with _dtypes_as_given(*arrays):
        options = {name: _given(value) for name, value in options.items()}
        return jax.tree.map(np.asarray, target(*map(_given, arrays), **options))


def differentiate(
    target: Target, problem: Problem, **options: Any
) -> tuple[Array, Any, Callable[..., dict[str, Array]]]:
    """The loss, the aux (or None), and `pull(cotangent)`: the gradients that are wanted.

    `pull(..., again=False)` is the last one.
    """
    with _dtypes_of(problem):
        inputs, loss_of = _loss_of(target, problem, **options)
        loss, vjp, aux = jax.vjp(loss_of, inputs, has_aux=True)

    def pull(cotangent: Any, *, again: bool = True) -> dict[str, Array]:
        del again  # JAX keeps what it needs
        with _dtypes_of(problem):
            (found,) = vjp(jnp.asarray(cotangent, loss.dtype))
            return {name: np.asarray(grad) for name, grad in found.items()}

    return np.asarray(loss), jax.tree.map(np.asarray, aux), pull


def functional_gradient(
    target: Target, problem: Problem, **options: Any
) -> tuple[Array, dict[str, Array]]:
    """The loss and the gradients by `jax.value_and_grad`, under `jax.jit`."""
    with _dtypes_of(problem):
        inputs, loss_of = _loss_of(target, problem, **options)

        def weighted(inputs: Any) -> Any:
            loss, _ = loss_of(inputs)
            return jnp.vdot(loss, jnp.asarray(problem.cotangent, loss.dtype)), loss

        gradient = jax.jit(jax.value_and_grad(weighted, has_aux=True))
        (_, loss), found = gradient(inputs)
        return np.asarray(loss), {name: np.asarray(grad) for name, grad in found.items()}


def forward_mode(
    target: Target, problem: Problem, tangents: dict[str, Array], **options: Any
) -> Array:
    """The derivative of the loss in a direction."""
    with _dtypes_of(problem):
        inputs, loss_of = _loss_of(target, problem, **options)
        direction = {name: jnp.asarray(tangent) for name, tangent in tangents.items()}
        return np.asarray(jax.jvp(lambda x: loss_of(x)[0], (inputs,), (direction,))[1])


def gradient_in_direction(
    target: Target, problem: Problem, tangents: dict[str, Array], **options: Any
) -> dict[str, Array]:
    """The gradient of <gradient of the loss, direction>: a second derivative."""
    with _dtypes_of(problem):
        inputs, loss_of = _loss_of(target, problem, **options)

        def slope(inputs: Any) -> Any:
            gradient = jax.grad(lambda x: loss_of(x)[0])(inputs)
            return sum(jnp.vdot(gradient[name], tangents[name]) for name in inputs)

        return {name: np.asarray(grad) for name, grad in jax.grad(slope)(inputs).items()}


def _loss_of(
    target: Target, problem: Problem, **options: Any
) -> tuple[dict[str, jax.Array], Callable[..., tuple[jax.Array, Any]]]:
    """The inputs whose gradients are wanted, and the loss and aux as a function of them."""
    given = {"hidden": problem.hidden, "weight": problem.weight, **problem.arrays}
    arrays = {name: jnp.asarray(array) for name, array in given.items()}
    labels = jnp.asarray(problem.labels_for("int32"))
    inputs = {name: arrays[name] for name in problem.needs}

    def loss_of(wanted: dict[str, jax.Array]) -> tuple[jax.Array, Any]:
        others = arrays | wanted
        hidden, weight = others.pop("hidden"), others.pop("weight")
        result = target(hidden, weight, labels, **others, **problem.options, **options)
        return result if isinstance(result, tuple) else (result, None)

    return inputs, loss_of


def _dtypes_of(problem: Problem) -> contextlib.AbstractContextManager[None]:
    return _dtypes_as_given(problem.hidden, problem.labels_for("int32"))


@contextlib.contextmanager
def _dtypes_as_given(*arrays: Any) -> Iterator[None]:
    """64-bit types where an array has one; without, JAX would narrow it."""
    wide = any(isinstance(array, np.ndarray) and array.dtype.itemsize == 8 for array in arrays)
    with jax.enable_x64(wide):
        yield


def _given(value: Any) -> Any:
    return jnp.asarray(value) if isinstance(value, np.ndarray) else value
