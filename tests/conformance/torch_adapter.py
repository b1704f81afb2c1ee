"""The losses of `torch_impl`, called with NumPy arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import torch

import torch_impl


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """One thread: with arrays this small a second one does nothing but wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def call(function: str, *arrays: Any, **options: Any) -> np.ndarray:
    """The loss alone; every array may be among the options as well."""
    options = {name: _to_torch(value) for name, value in options.items()}
    return _to_numpy(getattr(torch_impl, function)(*map(_to_torch, arrays), **options))


def differentiate(
    function: str, hidden: Any, weight: Any, labels: Any, *, bias: Any = None, **options: Any
) -> tuple[np.ndarray, Callable[[Any], tuple[np.ndarray | None, ...]]]:
    """The loss, and `pull(cotangent)`: the gradients of hidden, weight and bias (or None)."""
    hidden, weight, labels, bias = map(_to_torch, (hidden, weight, labels, bias))
    inputs = [array.requires_grad_() for array in (hidden, weight, bias) if array is not None]
    loss = getattr(torch_impl, function)(hidden, weight, labels, bias=bias, **options)

    def pull(cotangent: Any) -> tuple[np.ndarray | None, ...]:
        seed = torch.as_tensor(np.array(cotangent), dtype=loss.dtype)
        grads = torch.autograd.grad(loss, inputs, seed, retain_graph=True)
        return (*map(_to_numpy, grads), *[None] * (3 - len(inputs)))

    return _to_numpy(loss), pull


def _to_torch(array: Any) -> Any:
    if not isinstance(array, np.ndarray):
        return array
    if array.dtype == ml_dtypes.bfloat16:  # PyTorch does not know it, so the bits go across
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def _to_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
