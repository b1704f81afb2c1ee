"""The loops of `two_pass` as autograd and the compiler want them: flat, and without autocast."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from loss_spec import Needs
from torch_impl.config import Config
from torch_impl.statistics import Statistics
from torch_impl.two_pass import two_pass_backward, two_pass_forward


def run_forward(
    config: Config,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    codes: Tensor,
) -> list[Tensor]:
    """The losses, then the statistics that are there."""
    with without_autocast(hidden):
        losses, statistics = two_pass_forward(config, hidden, weight, bias, class_weight, codes)
    return [losses, *rows_of(statistics)]


def rows_of(statistics: Statistics) -> list[Tensor]:
    """The statistics that anybody needs later."""
    prediction = [] if statistics.prediction is None else [statistics.prediction]
    return [*statistics[:3], *prediction]


def statistics_of(rows: list[Tensor]) -> Statistics:
    maximum, exp_sum, label_score, *prediction = rows
    return Statistics(maximum, exp_sum, label_score, None, *prediction)


def run_backward(
    config: Config,
    needs: Needs,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    codes: Tensor,
    *statistics_and_cotangent: Tensor,
) -> list[Tensor]:
    """The gradients that are needed, in the order of the inputs."""
    *statistics, cotangent = statistics_and_cotangent
    with without_autocast(hidden):
        arrays = hidden, weight, bias, class_weight, codes
        grads = two_pass_backward(config, needs, *arrays, statistics_of(statistics), cotangent)
    return [grad for grad in grads if grad is not None]


def without_autocast(hidden: Tensor) -> contextlib.AbstractContextManager[Any]:
    """The operands are chosen already; autocast must not choose again."""
    if not torch.amp.is_autocast_available(hidden.device.type):
        return contextlib.nullcontext()
    return torch.autocast(hidden.device.type, enabled=False)


def one_by_one(
    call: Callable[..., Any],
    batch_size: int,
    in_dims: tuple[int | None, ...],
    arguments: tuple[Any, ...],
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """One call for each element of a batch: as lean as the loss of one, and as exact."""

    def of_one(select: Callable[[Tensor, int], Tensor]) -> Any:
        return call(
            *(
                argument if dim is None else select(argument, dim)
                for argument, dim in zip(arguments, in_dims, strict=True)
            )
        )

    if batch_size == 0:  # what there would be for a problem of zeros says the shapes
        shapes = of_one(lambda argument, dim: argument.sum(dim).to(argument.dtype))
        outputs = tuple(rows.new_empty((0, *rows.shape)) for rows in shapes)
    else:
        calls = [of_one(functools.partial(torch.select, index=i)) for i in range(batch_size)]
        outputs = tuple(torch.stack(column) for column in zip(*calls, strict=True))
    return outputs, (0,) * len(outputs)
