"""Labels of any integer dtype, made into codes that the loops can compare."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64, Integer
from torch import Tensor

from loss_spec.problem import label_error

# Codes of tokens that have no class. Neither equals any column of the logits.
IGNORED = -1
OUT_OF_RANGE = -2


def encode_labels(
    labels: Integer[Tensor, " N"], vocab_size: int, ignore_index: int
) -> Int64[Tensor, " N"]:
    """The class of each token, or `IGNORED`, or `OUT_OF_RANGE`."""
    ignored, in_range = _classify(labels, vocab_size, ignore_index)
    code = labels.to(torch.int64).masked_fill(~in_range, OUT_OF_RANGE)
    return code.masked_fill_(ignored, IGNORED)


def check_labels(labels: Integer[Tensor, "..."], vocab_size: int, ignore_index: int) -> None:
    """Raises `ValueError` for the first impossible label, where values can be read.

    That is on a CPU. On an accelerator reading them would make the host wait; there
    the loss of such a token is NaN.
    """
    if labels.device.type != "cpu":
        return
    ignored, in_range = _classify(labels, vocab_size, ignore_index)
    wrong = ~(ignored | in_range)
    if wrong.any():
        position = tuple(wrong.nonzero()[0].tolist())
        raise label_error(position, int(labels[position]), vocab_size)


def _classify(
    labels: Integer[Tensor, "..."], vocab_size: int, ignore_index: int
) -> tuple[Bool[Tensor, "..."], Bool[Tensor, "..."]]:
    """Whether each label is ignored, and whether it is a class.

    Compared as int64, in which most operators exist. A uint64 label beyond its range
    comes out negative: not a class, which is right, nor may it match an ignore_index
    that an unsigned dtype cannot hold.
    """
    wide = labels.to(torch.int64)
    ignored = wide == ignore_index
    if not labels.dtype.is_signed and ignore_index < 0:
        ignored = torch.zeros_like(ignored)
    return ignored, (wide >= 0) & (wide < vocab_size)
