"""The loops as operators of PyTorch, each a single node in the graph of `torch.compile`.

An operator takes tensors and plain numbers alone, so that a configuration travels flat; and
it plans when it runs, which is when the sizes are known.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from loss_spec import EVERYTHING, Needs, Objective
from torch_impl.calls import one_by_one, run_backward, run_forward
from torch_impl.config import Config
from torch_impl.matmul import accumulation_dtype
from torch_impl.planning import with_tiles

_ARRAYS = "Tensor hidden, Tensor weight, Tensor? bias, Tensor? class_weight, Tensor codes"
_CONFIG = (
    "float label_smoothing, float logit_scale, float? logit_softcap, float z_loss, "
    "str reduction, int vocab_chunk, int token_chunk, int memory_budget, bool prediction, "
    "ScalarType dtype"
)


@torch.library.custom_op(
    "memory_efficient_logits::two_pass_forward",
    mutates_args=(),
    schema=f"({_ARRAYS}, {_CONFIG}) -> Tensor[]",
)
def forward_operator(*arguments: Any) -> list[Tensor]:
    arrays, config = arguments[:5], _config(arguments[5:])
    config = with_tiles(config, EVERYTHING, *arrays[:2])
    return run_forward(config, *arrays)


@forward_operator.register_fake
def _(*arguments: Any) -> list[Tensor]:
    hidden, config = arguments[0], _config(arguments[5:])
    dtype = accumulation_dtype(config.dtype)
    rows = [hidden.new_empty(hidden.shape[0], dtype=dtype) for _ in range(4)]
    if config.prediction:
        rows.append(hidden.new_empty(hidden.shape[0], dtype=torch.int32))
    return rows


@torch.library.custom_op(
    "memory_efficient_logits::two_pass_backward",
    mutates_args=(),
    schema=(
        f"({_ARRAYS}, Tensor maximum, Tensor exp_sum, Tensor label_score, Tensor cotangent, "
        f"bool needs_hidden, bool needs_weight, bool needs_bias, {_CONFIG}) -> Tensor[]"
    ),
)
def backward_operator(*arguments: Any) -> list[Tensor]:
    arrays, needs, config = arguments[:9], Needs(*arguments[9:12]), _config(arguments[12:])
    config = with_tiles(config, EVERYTHING, *arrays[:2])
    return run_backward(config, needs, *arrays)


@backward_operator.register_fake
def _(*arguments: Any) -> list[Tensor]:
    inputs, needs = arguments[:3], arguments[9:12]
    return [torch.empty_like(array) for array, need in zip(inputs, needs, strict=True) if need]


def _register_vmap(operator: Any) -> None:
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        outputs, out_dims = one_by_one(operator, info.batch_size, in_dims, arguments)
        return list(outputs), list(out_dims)

    operator.register_vmap(vmap)


_register_vmap(forward_operator)
_register_vmap(backward_operator)


def flat(config: Config) -> tuple[Any, ...]:
    objective, *others = config
    return *objective, *others


def _config(flat: tuple[Any, ...]) -> Config:
    fields = len(Objective._fields)
    return Config(Objective(*flat[:fields]), *flat[fields:])
