"""A PyTorch loss, called with NumPy arrays.

The tensors go where JAX puts its arrays: on the GPU, where the process sees one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.backends import torch_backend
from harness.backends.torch_backend import to_numpy
from harness.conformance.problem import Problem
from loss_spec import LossAux
from loss_spec.reference import Array

Target = Callable[..., Any]

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@contextlib.contextmanager
def settings() -> Iterator[None]:
    """One thread: with arrays this small a second one does nothing but wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def call(target: Target, *arrays: Any, **options: Any) -> Any:
    """What the target returns; every array may be among the options as well."""
    options = {name: _given(value) for name, value in options.items()}
    result = target(*map(_given, arrays), **options)
    if isinstance(result, Tensor):
        return to_numpy(result)
    loss, aux = result
    return to_numpy(loss), _numpy(aux)


def differentiate(
    target: Target, problem: Problem, **options: Any
) -> tuple[Array, Any, Callable[..., dict[str, Array]]]:
    """The loss, the aux (or None), and `pull(cotangent)`: the gradients that are wanted.

    `pull(..., again=False)` is the last one.
    """
    inputs, loss_of = _loss_of(target, problem, **options)
    for tensor in inputs.values():
        tensor.requires_grad_()
    loss, aux = loss_of(**inputs)

    def pull(cotangent: Any, *, again: bool = True) -> dict[str, Array]:
        seed = _seed(cotangent, loss)
        found = torch.autograd.grad(loss, list(inputs.values()), seed, retain_graph=again)
        return {name: to_numpy(grad) for name, grad in zip(inputs, found, strict=True)}

    return to_numpy(loss), None if aux is None else _numpy(aux), pull


def functional_gradient(
    target: Target, problem: Problem, **options: Any
) -> tuple[Array, dict[str, Array]]:
    """The loss and the gradients by `torch.func.vjp`."""
    inputs, loss_of = _loss_of(target, problem, **options)
    vjp: Any = torch.func.vjp(lambda arrays: loss_of(**arrays)[0], inputs)
    loss, pull = vjp
    found = pull(_seed(problem.cotangent, loss))[0]
    return to_numpy(loss), {name: to_numpy(grad) for name, grad in found.items()}


def forward_mode(
    target: Target, problem: Problem, tangents: dict[str, Array], **options: Any
) -> Array:
    """The derivative of the loss in a direction."""
    inputs, loss_of = _loss_of(target, problem, **options)
    direction = {name: _to_tensor(tangent) for name, tangent in tangents.items()}
    return to_numpy(torch.func.jvp(lambda x: loss_of(**x)[0], (inputs,), (direction,))[1])


def gradient_in_direction(
    target: Target, problem: Problem, tangents: dict[str, Array], **options: Any
) -> dict[str, Array]:
    """The gradient of <gradient of the loss, direction>: a second derivative."""
    inputs, loss_of = _loss_of(target, problem, **options)
    names = list(inputs)
    tensors = [inputs[name].requires_grad_() for name in names]
    first = torch.autograd.grad(loss_of(**inputs)[0], tensors, create_graph=True)
    slope = sum(
        (grad * _to_tensor(tangents[name])).sum() for name, grad in zip(names, first, strict=True)
    )
    second = torch.autograd.grad(slope, tensors)  # type: ignore[arg-type]
    return {name: to_numpy(grad) for name, grad in zip(names, second, strict=True)}


def _loss_of(
    target: Target, problem: Problem, **options: Any
) -> tuple[dict[str, Tensor], Callable[..., tuple[Tensor, Any]]]:
    """The inputs whose gradients are wanted, and the loss and aux as a function of them."""
    given = {"hidden": problem.hidden, "weight": problem.weight, **problem.arrays}
    tensors = {name: _to_tensor(array) for name, array in given.items()}
    labels = _to_tensor(problem.labels_for("int64"))
    inputs = {name: tensors[name] for name in problem.needs}

    def loss_of(**wanted: Tensor) -> tuple[Tensor, Any]:
        arrays = tensors | wanted
        hidden, weight = arrays.pop("hidden"), arrays.pop("weight")
        result = target(hidden, weight, labels, **arrays, **problem.options, **options)
        return result if isinstance(result, tuple) else (result, None)

    return inputs, loss_of


def _numpy(aux: LossAux[Tensor]) -> LossAux[Array]:
    return LossAux._make(map(to_numpy, aux))


def _seed(cotangent: Any, loss: Tensor) -> Tensor:
    return torch.tensor(cotangent, dtype=loss.dtype, device=loss.device)


def _to_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return torch_backend.to_tensor(array).to(DEVICE)


def _given(value: Any) -> Any:
    return _to_tensor(value) if isinstance(value, np.ndarray) else value
