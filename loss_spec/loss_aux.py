"""What a loss can say beside its value."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

ArrayT = TypeVar("ArrayT")


class LossAux(NamedTuple, Generic[ArrayT]):
    """By-products of the loss, returned with `return_aux=True`; constants for autodiff.

    A token that is ignored holds 0, 0 and -1. One whose label is out of range has a
    log_prob of NaN.
    """

    logsumexp: ArrayT
    """[...] log of the softmax's denominator: log sum_v exp z_iv."""
    log_prob: ArrayT
    """[...] log-probability of the label: z_i,y_i - logsumexp_i."""
    prediction: ArrayT
    """[...] int32, the first class with the largest logit."""
    num_tokens: ArrayT
    """[] int32, how many tokens are not ignored."""
