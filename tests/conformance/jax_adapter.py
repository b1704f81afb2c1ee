"""The losses of `jax_impl`, called with NumPy arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_impl


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """Strict promotion: no dtype changes unless the code says so."""
    with jax.numpy_dtype_promotion("strict"):
        yield


def call(function: str, *arrays: Any, **options: Any) -> np.ndarray:
    """The loss alone; every array may be among the options as well."""
    with _dtypes_as_given(*arrays):
        options = {name: _to_jax(value) for name, value in options.items()}
        return np.asarray(getattr(jax_impl, function)(*map(_to_jax, arrays), **options))


def differentiate(
    function: str, hidden: Any, weight: Any, labels: Any, *, bias: Any = None, **options: Any
) -> tuple[np.ndarray, Callable[[Any], tuple[np.ndarray | None, ...]]]:
    """The loss, and `pull(cotangent)`: the gradients of hidden, weight and bias (or None)."""
    arrays = (hidden, weight, labels, bias)

    with _dtypes_as_given(*arrays):
        hidden, weight, labels, bias = map(_to_jax, arrays)
        loss, vjp = jax.vjp(
            lambda *inputs: getattr(jax_impl, function)(
                *inputs[:2], labels, bias=inputs[2], **options
            ),
            *(hidden, weight, bias),
        )

    def pull(cotangent: Any) -> tuple[np.ndarray | None, ...]:
        with _dtypes_as_given(*arrays):
            grads = vjp(jnp.asarray(cotangent, loss.dtype))
            return tuple(None if grad is None else np.asarray(grad) for grad in grads)

    return np.asarray(loss), pull


@contextlib.contextmanager
def _dtypes_as_given(*arrays: Any) -> Iterator[None]:
    """64-bit types where an array has one; without, JAX would narrow it."""
    wide = any(array is not None and array.dtype.itemsize == 8 for array in arrays)
    with jax.enable_x64(wide):
        yield


def _to_jax(array: Any) -> Any:
    return jnp.asarray(array) if isinstance(array, np.ndarray) else array
