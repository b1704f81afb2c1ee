"""What a step does on a GPU, operator by operator, on a machine that has none.

A tensor of device "meta" has a shape and no numbers: a step on it takes no memory however
large it is, and whoever looks at a number gets an exception where on a GPU the host would
wait. All that our code asks of a device is whether it is a CPU, so that meta takes the path
of CUDA. PyTorch's fake CUDA tensors do too, as `test_cuda_path.py` shows, but a build for
CPUs cannot differentiate them.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from loss_spec import Plan
from torch_impl import arguments, linear_cross_entropy, plan


class Operand(NamedTuple):
    """A tensor that went into an operator, or came out of it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str

    @property
    def numel(self) -> int:
        return prod(self.shape)


class Operator(NamedTuple):
    """One call of an operator; on a GPU a kernel is launched for it, if it is no view."""

    name: str
    inputs: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    is_view: bool

    def on(self, device: str) -> Operator:
        """The same on another device."""
        inputs, outputs = (
            tuple(each._replace(device=device) for each in operands)
            for operands in (self.inputs, self.outputs)
        )
        return self._replace(inputs=inputs, outputs=outputs)


class Matmul(NamedTuple):
    left: Operand
    right: Operand
    out: Operand

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        return tuple(each.dtype for each in self)

    @property
    def flops(self) -> int:
        """A product of [a, b] and [b, c] is 2abc."""
        return 2 * self.out.numel * self.left.shape[1]


class Recording(NamedTuple):
    """In bytes; `workspace` is what was live at the worst moment beyond what was returned."""

    operators: tuple[Operator, ...]
    allocations: tuple[Operand, ...]
    """the first tensor in each new storage"""
    peak: int
    workspace: int

    def matmuls(self) -> list[Matmul]:
        found = []
        for each in self.operators:
            if each.name in _FACTORS:
                left, right = each.inputs[_FACTORS[each.name]]
                found.append(Matmul(left, right, each.outputs[0]))
        return found


# Where they are among what goes into a matrix product.
_FACTORS = {
    "aten::mm": slice(2),
    "aten::bmm": slice(2),
    "aten::addmm": slice(1, 3),
    "aten::baddbmm": slice(1, 3),
}


def record(step: Callable[[], Sequence[Tensor]], inputs: Sequence[Tensor]) -> Recording:
    """Runs a step on some inputs, whose memory is not counted."""
    with _Recorder(inputs) as recorder:
        results = step()
    storages = {_key(result): result.untyped_storage().nbytes() for result in results}
    returned = sum(nbytes for key, nbytes in storages.items() if key not in recorder.inputs)
    operators, allocations = tuple(recorder.operators), tuple(recorder.allocations)
    return Recording(operators, allocations, recorder.peak, recorder.peak - returned)


class _Recorder(TorchDispatchMode):
    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.operators: list[Operator] = []
        self.allocations: list[Operand] = []
        self.peak = 0
        self.inputs = {_key(tensor) for tensor in inputs}
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if function.namespace == "prim":  # a fake tensor is asked for its device
            return result
        for tensor in _tensors(result):
            self._look_at(tensor)
        inputs = _operands(*args, *(kwargs or {}).values())
        name, is_view = function._schema.name, function.is_view
        self.operators.append(Operator(name, inputs, _operands(result), is_view))
        return result

    def _look_at(self, tensor: Tensor) -> None:
        """Counts its storage if that was not there before, and not those that are gone."""
        key, storage = _key(tensor), tensor.untyped_storage()
        if key in self.inputs or (key in self._live and not self._live[key][0].expired()):
            return
        self._live = {key: each for key, each in self._live.items() if not each[0].expired()}
        self._live[key] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(nbytes for _, nbytes in self._live.values()))
        self.allocations.append(_operand(tensor))


def _key(tensor: Tensor) -> int:
    """Of its storage, while that lives."""
    return tensor.untyped_storage()._cdata


def _tensors(*arguments: Any) -> list[Tensor]:
    """Those among the arguments or results of an operator, in order."""
    found = []
    for each in arguments:
        if isinstance(each, Tensor):
            found.append(each)
        elif isinstance(each, (tuple, list)):
            found += _tensors(*each)
    return found


def _operands(*arguments: Any) -> tuple[Operand, ...]:
    return tuple(_operand(tensor) for tensor in _tensors(*arguments))


def _operand(tensor: Tensor) -> Operand:
    return _shared(tensor.shape, tensor.dtype, tensor.device.type)


@functools.cache
def _shared(shape: torch.Size, dtype: torch.dtype, device: str) -> Operand:
    """One object for all that are alike: there are a hundred thousand, and few kinds."""
    return Operand(tuple(shape), dtype, device)


class Call(NamedTuple):
    """A loss and its gradients; hashable, so that each is run once."""

    shape: tuple[int, int, int]
    """tokens, dimensions, classes"""
    dtype: torch.dtype
    needs: str = "hidden weight"
    """the arrays that are trained"""
    given: str = ""
    """those that are given besides"""
    autocast: torch.dtype | None = None
    options: tuple[tuple[str, Any], ...] = ()

    def having(self, **options: Any) -> Call:
        return self._replace(options=(*self.options, *options.items()))


def make_arrays(call: Call, device: str = "meta") -> dict[str, Any]:
    num_tokens, hidden_dim, vocab_size = call.shape
    vocab_axis = dict(call.options).get("vocab_axis", 0)
    shapes = {
        "hidden": (num_tokens, hidden_dim),
        "weight": (hidden_dim, vocab_size) if vocab_axis else (vocab_size, hidden_dim),
        "bias": (vocab_size,),
        "class_weight": (vocab_size,),
        "token_weight": (num_tokens,),
    }
    names = {"hidden", "weight", *call.needs.split(), *call.given.split()}
    arrays = {
        name: torch.empty(shape, dtype=call.dtype, device=device)
        for name, shape in shapes.items()
        if name in names
    }
    for name in call.needs.split():
        arrays[name].requires_grad_()
    return {**arrays, "labels": torch.empty(num_tokens, dtype=torch.int64, device=device)}


def run(call: Call) -> tuple[Plan, Recording]:
    """What was planned for a call, and what it did."""
    with _autocast(call.autocast):
        planned = plan(**make_arrays(call), **dict(call.options))
    # By name, so that what "auto" takes is run once, also where it was asked for.
    options = {key: value for key, value in call.options if key != "memory_budget"}
    for name in ("strategy", "vocab_chunk", "token_chunk"):
        options[name] = getattr(planned, name)
    return planned, _run(call._replace(options=tuple(sorted(options.items()))))


@functools.cache
def _run(call: Call) -> Recording:
    arrays, options = make_arrays(call), dict(call.options)
    trained = [arrays[name] for name in call.needs.split()]

    def step() -> tuple[Tensor, ...]:
        with _autocast(call.autocast):
            result = linear_cross_entropy(**arrays, **options)
        loss, aux = result if options.get("return_aux") else (result, ())
        cotangent = torch.empty_like(loss)
        return (loss, *aux, *(torch.autograd.grad(loss, trained, cotangent) if trained else ()))

    return record(step, list(arrays.values()))


def _autocast(dtype: torch.dtype | None) -> contextlib.AbstractContextManager[Any]:
    """As if it were in charge: meta has no autocast of its own."""
    if dtype is None:
        return contextlib.nullcontext()
    name = str(dtype).removeprefix("torch.")

    def operand(tensor: Tensor) -> Any:
        return arguments._spec(tensor)._replace(dtype=name)

    return mock.patch.object(arguments, "_operand", operand)
