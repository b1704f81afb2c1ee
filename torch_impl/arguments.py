"""The arguments of a call, checked, and in the form in which the loops take them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from loss_spec import ArraySpec, LossOptions, Problem, check_arrays
from torch_impl.labels import encode_labels
from torch_impl.matmul import accumulation_dtype


class Arrays(NamedTuple):
    """The arguments as the implementations take them: tokens flat, labels as codes."""

    hidden: Float[Tensor, "N D"]
    weight: Float[Tensor, "V D"]
    codes: Int64[Tensor, " N"]
    bias: Float[Tensor, " V"] | None
    class_weight: Float[Tensor, " V"] | None
    token_weight: Float[Tensor, " N"] | None


def check_arguments(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    token_weight: Tensor | None,
    options: LossOptions,
) -> tuple[Arrays, Problem]:
    """The checked arguments, and the sizes that they agree on."""
    arrays_ = hidden, weight, labels, bias, class_weight, token_weight
    problem = problem_of(*arrays_, options)
    dtype = accumulation_dtype(getattr(torch, problem.dtype))
    # Sizes and never -1, which a batch of no problems under vmap leaves open.
    num_tokens, vocab_size = problem.num_tokens, problem.vocab_size
    codes = encode_labels(labels, vocab_size, options.ignore_index)

    def constant(tensor: Tensor | None, length: int) -> Tensor | None:
        return None if tensor is None else tensor.detach().reshape(length).to(dtype)

    arrays = Arrays(
        hidden=hidden.reshape(num_tokens, problem.hidden_dim),
        weight=weight if options.vocab_axis == 0 else weight.t(),
        codes=codes.reshape(num_tokens),
        bias=bias,
        class_weight=constant(class_weight, vocab_size),
        token_weight=constant(token_weight, num_tokens),
    )
    return arrays, problem


def problem_of(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    token_weight: Tensor | None,
    options: LossOptions,
) -> Problem:
    """The sizes that the arguments agree on, and the dtype of their matmuls."""
    required = {"hidden": hidden, "weight": weight, "labels": labels}
    optional = {"bias": bias, "class_weight": class_weight, "token_weight": token_weight}
    given = {name: value for name, value in optional.items() if value is not None}
    for name, value in (required | given).items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
        if value.device != hidden.device:
            raise ValueError(f"{name}: expected device {hidden.device}, got {value.device}")
    return check_arrays(
        hidden=_operand(hidden),
        weight=_operand(weight),
        labels=_spec(labels),
        bias=None if bias is None else _operand(bias),
        class_weight=None if class_weight is None else _spec(class_weight),
        token_weight=None if token_weight is None else _spec(token_weight),
        vocab_axis=options.vocab_axis,
    )


def _spec(tensor: Tensor) -> ArraySpec:
    return ArraySpec(tuple(tensor.shape), _name(tensor.dtype))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _operand(tensor: Tensor) -> ArraySpec:
    """The spec of an operand of the matmul: autocast's dtype, where that is in charge."""
    spec, device = _spec(tensor), tensor.device.type
    is_eligible = tensor.is_floating_point() and tensor.dtype != torch.float64
    # Asked about a device that has no autocast, as meta has none, PyTorch raises.
    is_eligible = is_eligible and torch.amp.is_autocast_available(device)
    if is_eligible and torch.is_autocast_enabled(device):
        return spec._replace(dtype=_name(torch.get_autocast_dtype(device)))
    return spec
