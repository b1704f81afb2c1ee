"""The vocabulary loop: logits once for the loss, and once more for the gradients.

The forward keeps a few numbers a token, the statistics of its softmax. The backward
computes each tile of logits again, makes it the logit gradient and feeds it to the two
gradient matmuls. A tile is token_chunk x vocab_chunk: nothing is ever tokens x
vocabulary.

Buffers are allocated once and every step on a tile happens in place. No value is
read on the host, so on a GPU nothing waits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from loss_spec import Objective
from torch_impl.chunks import chunks
from torch_impl.logits import capped_logits_into
from torch_impl.matmul import accumulation_dtype, matmul_into
from torch_impl.objective import (
    Coefficients,
    gradient_coefficients,
    logit_gradient_,
    token_losses,
)
from torch_impl.statistics import Statistics, start_statistics, update_statistics_


class TwoPass(NamedTuple):
    """What is static about a call."""

    objective: Objective
    vocab_chunk: int
    token_chunk: int
    prediction: bool
    dtype: torch.dtype
    """of the operands of the matmuls: that of the inputs, or autocast's"""


class Needs(NamedTuple):
    """Which gradients were asked for; the others are never computed."""

    hidden: bool
    weight: bool
    bias: bool


def two_pass_forward(
    config: TwoPass,
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    class_weight: Float[Tensor, " V"] | None,
    codes: Int64[Tensor, " N"],
) -> tuple[Float[Tensor, " N"], Statistics]:
    """Loss of each token, and the statistics of its logits: an online softmax.

    The loss is 0 where a token is ignored and NaN where its label is out of range.
    `weight` may have any strides: a transposed view of [D, V] costs nothing.
    """
    num_tokens, vocab_size = hidden.shape[0], weight.shape[0]
    dtype = accumulation_dtype(config.dtype)
    tile = _Tile(config, hidden, dtype)
    statistics = start_statistics(
        num_tokens,
        dtype,
        hidden.device,
        weighted_sum=config.objective.label_smoothing > 0,
        prediction=config.prediction,
    )
    for tokens in chunks(num_tokens, config.token_chunk):
        hidden_block, codes_block = hidden[tokens].to(config.dtype), codes[tokens]
        seen = statistics.rows(tokens)
        seen_weight: Tensor | float = 0.0
        for vocab in chunks(vocab_size, config.vocab_chunk):
            weight_chunk = weight[vocab].to(config.dtype)
            logits = tile.view(len(hidden_block), len(weight_chunk))  # [T, C]
            chunk_bias = None if bias is None else bias[vocab]
            capped_logits_into(
                logits, None, config.objective, hidden_block, weight_chunk, chunk_bias
            )
            chunk_weight = None if class_weight is None else class_weight[vocab]
            seen_weight = update_statistics_(
                seen, seen_weight, logits, codes_block, vocab, chunk_weight
            )
    losses = token_losses(config.objective, statistics, codes, class_weight, vocab_size)
    return losses, statistics


def two_pass_backward(
    config: TwoPass,
    needs: Needs,
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    class_weight: Float[Tensor, " V"] | None,
    codes: Int64[Tensor, " N"],
    statistics: Statistics,
    cotangent: Float[Tensor, " N"],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of hidden, weight and bias; None for those not needed."""
    num_tokens, vocab_size = hidden.shape[0], weight.shape[0]
    dtype = accumulation_dtype(config.dtype)
    is_narrow = config.dtype != dtype
    tile = _Tile(config, hidden, dtype)
    narrow_tile = _Tile(config, hidden, config.dtype) if is_narrow else None
    slope_tile = None
    if config.objective.logit_softcap is not None:
        slope_tile = _Tile(config, hidden, dtype)

    coefficients = gradient_coefficients(
        config.objective, statistics, codes, class_weight, vocab_size, cotangent
    )
    scale = _power_of_two(coefficients) if is_narrow else cotangent.new_ones(())
    for rows in coefficients:
        if rows is not None:
            rows /= scale
    shift = statistics.shift

    # Sums are kept in `dtype`: in the gradient itself where it has that dtype, else in
    # a buffer that is rounded once, at the end.
    grad_hidden = grad_weight = grad_bias = weight_buffer = None
    if needs.hidden:
        grad_hidden = torch.zeros_like(hidden, dtype=dtype)
    if needs.weight:
        # In the strides of weight, or `.grad` would be made from a copy. No token, no write.
        grad_weight = torch.empty_like(weight) if num_tokens else torch.zeros_like(weight)
        if weight.dtype != dtype:
            weight_buffer = hidden.new_empty(config.vocab_chunk, hidden.shape[1], dtype=dtype)
    if needs.bias:
        grad_bias = cotangent.new_zeros(vocab_size)

    for vocab in chunks(vocab_size, config.vocab_chunk):
        weight_chunk = weight[vocab].to(config.dtype)
        chunk_bias = None if bias is None else bias[vocab]
        chunk_weight = None if class_weight is None else class_weight[vocab]
        if grad_weight is not None:
            grad_chunk = grad_weight[vocab]
            sum_chunk = grad_chunk if weight_buffer is None else weight_buffer[: len(weight_chunk)]
        for tokens in chunks(num_tokens, config.token_chunk):
            hidden_block = hidden[tokens].to(config.dtype)
            shape = len(hidden_block), len(weight_chunk)
            logits = tile.view(*shape)  # [T, C]
            slope = None if slope_tile is None else slope_tile.view(*shape)
            capped_logits_into(
                logits, slope, config.objective, hidden_block, weight_chunk, chunk_bias
            )
            grad_logits = logit_gradient_(
                logits.sub_(shift[tokens, None]).exp_(),
                slope,
                codes[tokens],
                vocab,
                chunk_weight,
                statistics.exp_sum[tokens],
                coefficients.rows(tokens),
            )
            if grad_bias is not None:
                grad_bias[vocab] += grad_logits.sum(0)
            if narrow_tile is not None:
                grad_logits = narrow_tile.view(*shape).copy_(grad_logits)
            if grad_hidden is not None:
                matmul_into(grad_hidden[tokens], grad_logits, weight_chunk, accumulate=True)
            if grad_weight is not None:
                is_later = tokens.start > 0
                matmul_into(sum_chunk, grad_logits.t(), hidden_block, accumulate=is_later)
        if grad_weight is not None and is_narrow and num_tokens:
            torch.mul(sum_chunk, scale, out=grad_chunk)

    if is_narrow:
        grad_hidden = None if grad_hidden is None else grad_hidden.mul_(scale).to(hidden.dtype)
        grad_bias = None if grad_bias is None else grad_bias.mul_(scale)
    if grad_bias is not None and bias is not None:
        grad_bias = grad_bias.to(bias.dtype)
    return grad_hidden, grad_weight, grad_bias


class _Tile:
    """One buffer for all tiles: a contiguous [rows, columns], for ragged ends too."""

    def __init__(self, config: TwoPass, hidden: Tensor, dtype: torch.dtype) -> None:
        self._buffer = hidden.new_empty(config.token_chunk * config.vocab_chunk, dtype=dtype)

    def view(self, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
        return self._buffer[: rows * columns].view(rows, columns)


def _power_of_two(coefficients: Coefficients) -> Float[Tensor, ""]:
    """The size of the largest coefficient as a power of two, 1 where all are 0.

    Taken out before the logit gradient is rounded to 16 bits and put back in the
    float32 sums: a mean over many tokens scales by 1/N, and float16 has no room for
    a probability times that. A power of two, so that both steps are exact.
    """
    rows = torch.stack([rows.abs() for rows in coefficients if rows is not None])
    if rows.numel() == 0:
        return rows.new_ones(())
    largest = rows.amax()
    exponent = torch.frexp(torch.where(largest.isfinite(), largest, 1))[1]
    return torch.ldexp(torch.ones_like(largest), exponent)
