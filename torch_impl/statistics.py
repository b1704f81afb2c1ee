"""An online softmax: what the loss must know of a row of logits, chunk by chunk.

Everything is kept relative to the largest logit seen so far, so that logits of 1e4
cost no digits: their differences are exact where the logits themselves are.
After Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from torch_impl.labels import label_column


class Statistics(NamedTuple):
    """Of the classes seen so far, for each of T rows of logits z."""

    maximum: Float[Tensor, " T"]
    """max_v z_v; -inf before the first chunk"""
    exp_sum: Float[Tensor, " T"]
    """sum_v exp(z_v - shift)"""
    label_logit: Float[Tensor, " T"]
    """z_y, 0 before it is seen"""
    weighted_sum: Float[Tensor, " T"] | None = None
    """sum_v class_weight_v * (z_v - shift), for label smoothing"""
    prediction: Int32[Tensor, " T"] | None = None
    """the first class with the largest logit, if somebody asked"""

    @property
    def shift(self) -> Float[Tensor, " T"]:
        """The maximum, but 0 where every class is masked by -inf: no inf - inf."""
        return self.maximum.masked_fill(self.maximum == -torch.inf, 0)

    @property
    def label_log_prob(self) -> Float[Tensor, " T"]:
        """z_y - logsumexp, by differences of logits alone."""
        return (self.label_logit - self.shift) - self.exp_sum.log()

    @property
    def logsumexp(self) -> Float[Tensor, " T"]:
        return self.shift + self.exp_sum.log()

    def rows(self, tokens: slice) -> Statistics:
        """Views of some rows."""
        return Statistics._make(None if rows is None else rows[tokens] for rows in self)


def start_statistics(
    num_tokens: int,
    dtype: torch.dtype,
    device: torch.device,
    *,
    weighted_sum: bool,
    prediction: bool,
) -> Statistics:
    def zeros(dtype: torch.dtype) -> Tensor:
        return torch.zeros(num_tokens, dtype=dtype, device=device)

    return Statistics(
        maximum=zeros(dtype).fill_(-torch.inf),
        exp_sum=zeros(dtype),
        label_logit=zeros(dtype),
        weighted_sum=zeros(dtype) if weighted_sum else None,
        prediction=zeros(torch.int32) if prediction else None,
    )


def update_statistics_(
    seen: Statistics,
    seen_weight: Tensor | float,
    logits: Float[Tensor, "T C"],
    codes: Int64[Tensor, " T"],
    vocab: slice,
    class_weight: Float[Tensor, " C"] | None,
) -> Tensor | float:
    """Adds one more chunk to what was seen, in place, and uses up the logits.

    `seen_weight` is the class weight of all columns seen, and returned with those of
    this chunk; only label smoothing reads it.
    """
    column, is_here = label_column(codes, vocab)
    seen.label_logit.add_(logits.gather(1, column).squeeze(1).masked_fill_(~is_here, 0))

    if seen.prediction is None:
        chunk_maximum = logits.amax(1)
    else:
        chunk_maximum, winner = logits.max(1)
        is_larger = chunk_maximum > seen.maximum
        winner = winner.add_(vocab.start).to(torch.int32)
        seen.prediction.copy_(torch.where(is_larger, winner, seen.prediction))

    old_maximum, old_shift = seen.maximum.clone(), seen.shift
    torch.maximum(seen.maximum, chunk_maximum, out=seen.maximum)
    shift = seen.shift
    logits.sub_(shift[:, None])
    if seen.weighted_sum is not None:
        terms = logits.sum(1) if class_weight is None else logits @ class_weight
        seen.weighted_sum.add_(terms).add_(seen_weight * (old_shift - shift))
        seen_weight = seen_weight + (
            logits.shape[1] if class_weight is None else class_weight.sum()
        )
    seen.exp_sum.mul_((old_maximum - shift).exp_()).add_(logits.exp_().sum(1))
    return seen_weight
