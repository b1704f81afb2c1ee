"""An online softmax: what the loss must know of a row of logits, chunk by chunk.

Everything is kept relative to the largest score seen so far, so that logits of 1e4
cost no digits: differences of scores are exact where the scores themselves are. The
logits are `factor` times the scores (`Objective.logit_factor`).
After Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from torch_impl.labels import label_column
from torch_impl.tokens import Rows, put_


class Statistics(NamedTuple):
    """Of the classes seen so far, for each of T rows of scores u."""

    maximum: Float[Tensor, " T"]
    """max_v u_v; -inf before the first chunk"""
    exp_sum: Float[Tensor, " T"]
    """sum_v exp(factor * (u_v - shift))"""
    label_score: Float[Tensor, " T"]
    """u_y, 0 before it is seen"""
    weighted_sum: Float[Tensor, " T"] | None = None
    """sum_v class_weight_v * (u_v - shift), for label smoothing"""
    prediction: Int32[Tensor, " T"] | None = None
    """the first class with the largest score, if somebody asked"""

    @property
    def shift(self) -> Float[Tensor, " T"]:
        """The maximum, but 0 where every class is masked by -inf: no inf - inf."""
        return self.maximum.masked_fill(self.maximum == -torch.inf, 0)

    def label_log_prob(self, factor: float) -> Float[Tensor, " T"]:
        """The label's logit - logsumexp, by differences of scores alone."""
        return factor * (self.label_score - self.shift) - self.exp_sum.log()

    def logsumexp(self, factor: float) -> Float[Tensor, " T"]:
        """Of the logits."""
        return factor * self.shift + self.exp_sum.log()

    def rows(self, tokens: slice) -> Statistics:
        """Views of some rows."""
        return Statistics._make(None if rows is None else rows[tokens] for rows in self)

    def put_(self, tokens: Rows, block: Statistics) -> None:
        """Writes those rows."""
        for rows, found in zip(self, block, strict=True):
            if rows is not None and found is not None:
                put_(rows, tokens, found)


def exponential_(below: Float[Tensor, "*tile"], factor: float) -> Float[Tensor, "*tile"]:
    """`exp(factor * below)` in place of scores less their row's shift."""
    return (below if factor == 1.0 else below.mul_(factor)).exp_()


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
        label_score=zeros(dtype),
        weighted_sum=zeros(dtype) if weighted_sum else None,
        prediction=zeros(torch.int32) if prediction else None,
    )


def update_statistics_(
    factor: float,
    seen: Statistics,
    seen_weight: Tensor | float,
    scores: Float[Tensor, "T C"],
    codes: Int64[Tensor, " T"],
    vocab: slice,
    class_weight: Float[Tensor, " C"] | None,
) -> None:
    """Adds one more chunk to what was seen, in place.

    The scores become `exp(factor * (u - shift))`, with the shift as it is by now.
    `seen_weight` is the class weight of all columns seen before; only label smoothing
    reads it.
    """
    column, is_here = label_column(codes, vocab)
    seen.label_score.add_(scores.gather(1, column).squeeze(1).masked_fill_(~is_here, 0))

    if seen.prediction is None:
        chunk_maximum = scores.amax(1)
    else:
        chunk_maximum, winner = scores.max(1)
        # A NaN is the largest, the first of them; as in an argmax of the whole row.
        is_first_nan = chunk_maximum.isnan() & ~seen.maximum.isnan()
        is_larger = (chunk_maximum > seen.maximum) | is_first_nan
        winner = winner.add_(vocab.start).to(torch.int32)
        seen.prediction.copy_(torch.where(is_larger, winner, seen.prediction))

    old_maximum, old_shift = seen.maximum.clone(), seen.shift
    torch.maximum(seen.maximum, chunk_maximum, out=seen.maximum)
    shift = seen.shift
    scores.sub_(shift[:, None])
    if seen.weighted_sum is not None:
        terms = scores.sum(1) if class_weight is None else scores @ class_weight
        seen.weighted_sum.add_(terms).add_(seen_weight * (old_shift - shift))
    seen.exp_sum.mul_(exponential_(old_maximum.sub_(shift), factor))
    seen.exp_sum.add_(exponential_(scores, factor).sum(1))
