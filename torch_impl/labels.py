"""Labels of any integer dtype, made into codes that the loops can compare."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int64, Integer
from torch import Tensor

from loss_spec.problem import label_error

# Codes of tokens that have no class. Neither equals any column of the logits.
IGNORED = -1
OUT_OF_RANGE = -2


def encode_labels(
    labels: Integer[Tensor, "..."], vocab_size: int, ignore_index: int
) -> Int64[Tensor, "..."]:
    """The class of each token, or `IGNORED`, or `OUT_OF_RANGE`.

    Raises `ValueError` for the first impossible label, where values can be read: on a
    CPU and outside `torch.compile`. On an accelerator reading them would make the host
    wait; there, and in compiled code, the loss of such a token is NaN.
    """
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return _encode_labels(labels, vocab_size, ignore_index)
    return _CheckAndEncode.apply(labels, vocab_size, ignore_index)


def _encode_labels(
    labels: Integer[Tensor, "..."], vocab_size: int, ignore_index: int
) -> Int64[Tensor, "..."]:
    ignored, in_range = _classify(labels, vocab_size, ignore_index)
    code = labels.to(torch.int64).masked_fill(~in_range, OUT_OF_RANGE)
    return code.masked_fill_(ignored, IGNORED)


def label_column(
    codes: Int64[Tensor, " T"], vocab: slice
) -> tuple[Int64[Tensor, "T 1"], Bool[Tensor, " T"]]:
    """The column of each row's label in a chunk, and whether it is there at all.

    Every row gets some column: selecting rows would make a GPU's host wait.
    """
    is_here = (codes >= vocab.start) & (codes < vocab.stop)
    column = (codes - vocab.start).masked_fill_(~is_here, 0)
    return column[:, None], is_here


class _CheckAndEncode(torch.autograd.Function):
    """A Function, since that sees values under `torch.func.vmap` and `torch.func.grad`."""

    @staticmethod
    def forward(labels: Tensor, vocab_size: int, ignore_index: int) -> Tensor:
        _check_labels(labels, vocab_size, ignore_index)
        return _encode_labels(labels, vocab_size, ignore_index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], labels: Tensor, vocab_size: int, ignore_index: int
    ) -> tuple[Tensor, int]:
        labels = labels.movedim(in_dims[0], 0)
        return _CheckAndEncode.apply(labels, vocab_size, ignore_index), 0


def _check_labels(labels: Integer[Tensor, "..."], vocab_size: int, ignore_index: int) -> None:
    ignored, in_range = _classify(labels, vocab_size, ignore_index)
    wrong = ~(ignored | in_range)
    if wrong.any():
        position = tuple(wrong.nonzero()[0].tolist())
        raise label_error(position, int(labels.numpy()[position]), vocab_size)


def _classify(
    labels: Integer[Tensor, "..."], vocab_size: int, ignore_index: int
) -> tuple[Bool[Tensor, "..."], Bool[Tensor, "..."]]:
    """Whether each label is ignored, and whether it is a class.

    Compared as int64, in which most operators exist; what is left of 2^64 wraps, on
    both sides. An ignore_index that the labels' own dtype cannot hold matches none:
    a uint8 label of 156 is not -100.
    """
    info = torch.iinfo(labels.dtype)
    wide = labels.to(torch.int64)
    if info.min <= ignore_index <= info.max:
        ignored = wide == (ignore_index + 2**63) % 2**64 - 2**63
    else:
        ignored = torch.zeros_like(wide, dtype=torch.bool)
    return ignored, (wide >= 0) & (wide < vocab_size)
