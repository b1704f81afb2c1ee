"""Losses that earn each kind of verdict. Targets of the workers."""

from __future__ import annotations

import os
import time
from typing import Any

import torch

from harness.targets import load_target
from torch_impl import standard_linear_cross_entropy


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        return weight.clone()

    @staticmethod
    def backward(ctx: Any, cotangent: torch.Tensor) -> torch.Tensor:
        return cotangent * 1.0001


def wrong_gradient(hidden: Any, weight: Any, labels: Any, *, reduction: str = "mean") -> Any:
    """The loss is right, and dW off by 1e-4."""
    return standard_linear_cross_entropy(
        hidden, _ScaledGradient.apply(weight), labels, reduction=reduction
    )


def zero_where_it_should_refuse(
    hidden: Any, weight: Any, labels: Any, *, reduction: str = "mean"
) -> Any:
    """A label that is no class gets the loss of class 0."""
    known = labels.where((labels >= 0) & (labels < weight.shape[0]), 0)
    return standard_linear_cross_entropy(hidden, weight, known, reduction=reduction)


def wrong_prediction(
    hidden: Any, weight: Any, labels: Any, *, reduction: str = "mean", return_aux: bool = False
) -> Any:
    """One token gets the class that is second."""
    loss, aux = standard_linear_cross_entropy(
        hidden, weight, labels, reduction=reduction, return_aux=True
    )
    prediction = aux.prediction.clone()
    prediction[3] = (hidden[3] @ weight.t()).topk(2).indices[1]
    return loss, aux._replace(prediction=prediction)


def wrong_num_tokens(
    hidden: Any, weight: Any, labels: Any, *, reduction: str = "mean", return_aux: bool = False
) -> Any:
    loss, aux = standard_linear_cross_entropy(
        hidden, weight, labels, reduction=reduction, return_aux=True
    )
    return loss, aux._replace(num_tokens=aux.num_tokens - 1)


def aborting_without_tokens(hidden: Any, weight: Any, labels: Any) -> Any:
    """Ends its process for an empty batch, as an assertion in C++ does."""
    if labels.numel() == 0:
        os.abort()
    return standard_linear_cross_entropy(hidden, weight, labels)


def sleeping_without_tokens(hidden: Any, weight: Any, labels: Any) -> Any:
    if labels.numel() == 0:
        time.sleep(600)
    return standard_linear_cross_entropy(hidden, weight, labels)


def raising(hidden: Any, weight: Any, labels: Any, *, reduction: str = "mean") -> Any:
    raise ArithmeticError("this loss [does] not | work\nat all")


def needing_what_is_not_there(
    hidden: Any, weight: Any, labels: Any, *, reduction: str = "mean"
) -> Any:
    return load_target("no_such_package:loss")(hidden, weight, labels)


def needing_what_is_broken(
    hidden: Any, weight: Any, labels: Any, *, reduction: str = "mean"
) -> Any:
    return load_target("broken_peer:loss")(hidden, weight, labels)
