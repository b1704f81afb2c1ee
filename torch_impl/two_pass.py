"""Logits once for the loss, and once more for the gradients.

The forward keeps a few numbers a token, the statistics of its softmax. The backward
computes each tile of logits again, makes it the logit gradient and feeds it to the two
gradient matmuls. A tile is token_chunk x vocab_chunk: nothing is ever tokens x
vocabulary.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from loss_spec import Needs
from torch_impl.buffers import Buffer
from torch_impl.chunks import chunks, slabs
from torch_impl.config import Config
from torch_impl.gradients import add_tile_, round_into, rounded, spread_, start_sums
from torch_impl.matmul import accumulation_dtype
from torch_impl.objective import gradient_coefficients, power_of_two, token_losses
from torch_impl.statistics import Statistics, start_statistics, update_statistics_
from torch_impl.tile import Tiles, recomputed_gradient
from torch_impl.tokens import counted_tokens, take, token_blocks


def two_pass_forward(
    config: Config,
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
    dtype, factor = accumulation_dtype(config.dtype), config.objective.logit_factor
    smoothing = config.objective.label_smoothing > 0
    options = {"weighted_sum": smoothing, "prediction": config.prediction}
    tiles = Tiles(config, hidden, weight, config.vocab_chunk)
    statistics = start_statistics(num_tokens, dtype, hidden.device, **options)
    for rows, _ in token_blocks(num_tokens, counted_tokens(codes), config.token_chunk):
        block, block_codes = tiles.hidden(hidden, codes, rows), take(codes, rows)
        seen = start_statistics(len(block), dtype, hidden.device, **options)
        seen_weight: Tensor | float = 0.0
        for vocab in chunks(vocab_size, config.vocab_chunk):
            chunk_bias = None if bias is None else bias[vocab]
            scores = tiles.scores(block, tiles.weight(weight, vocab), chunk_bias)
            chunk_weight = None if class_weight is None else class_weight[vocab]
            for slab in slabs(scores):
                update_statistics_(
                    factor,
                    seen.rows(slab),
                    seen_weight,
                    scores[slab],
                    block_codes[slab],
                    vocab,
                    chunk_weight,
                )
            if smoothing:
                seen_weight += scores.shape[1] if chunk_weight is None else chunk_weight.sum()
        statistics.put_(rows, seen)
    losses = token_losses(config.objective, statistics, codes, class_weight, vocab_size)
    return losses, statistics


def two_pass_backward(
    config: Config,
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
    vocab_size, shift = weight.shape[0], statistics.shift
    counted = counted_tokens(codes)
    blocks = list(token_blocks(len(codes), counted, config.token_chunk))
    if not blocks:
        inputs = zip((hidden, weight, bias), needs, strict=True)
        grad_hidden, grad_weight, grad_bias = (
            torch.zeros_like(array) if need and array is not None else None
            for array, need in inputs
        )
        return grad_hidden, grad_weight, grad_bias
    coefficients = gradient_coefficients(
        config.objective, statistics, codes, class_weight, vocab_size, cotangent
    )
    scale = None
    if config.dtype != cotangent.dtype:
        scale = power_of_two(*coefficients)
        for coefficient in coefficients:
            if coefficient is not None:
                coefficient /= scale
    tiles = Tiles(config, hidden, weight, config.vocab_chunk)
    # The gradient of the weight is its own sum where it has the dtype of sums; else a chunk
    # of it has a buffer, and is rounded once.
    needs_chunk = needs.weight and weight.dtype != cotangent.dtype
    needs_sum = needs._replace(weight=needs.weight and not needs_chunk)
    sums = start_sums(needs_sum, hidden, weight, cotangent.dtype)
    grad_weight, chunk_sum = sums.weight, None
    if needs_chunk:
        grad_weight = torch.empty_like(weight)
        chunk_sum = Buffer(config.vocab_chunk * hidden.shape[1], hidden, cotangent.dtype)

    for vocab in chunks(vocab_size, config.vocab_chunk):
        weight_chunk = tiles.weight(weight, vocab)
        chunk_bias = None if bias is None else bias[vocab]
        chunk_weight = None if class_weight is None else class_weight[vocab]
        chunk_sums = sums.of_classes(vocab)
        if chunk_sum is not None:
            chunk_sums = chunk_sums._replace(weight=chunk_sum.view(*weight_chunk.shape))
        for index, (rows, place) in enumerate(blocks):
            block = tiles.hidden(hidden, codes, rows)
            gradient = recomputed_gradient(
                config,
                tiles,
                tiles.scores(block, weight_chunk, chunk_bias),
                take(shift, rows),
                take(codes, rows),
                vocab,
                chunk_weight,
                coefficients.rows(rows),
            )
            add_tile_(chunk_sums, tiles, gradient, block, weight_chunk, place, is_first=index == 0)
        if chunk_sum is not None and grad_weight is not None and chunk_sums.weight is not None:
            round_into(grad_weight[vocab], chunk_sums.weight, scale)

    if grad_weight is not None and chunk_sum is None:
        grad_weight = rounded(grad_weight, scale, weight.dtype)
    grad_hidden = sums.hidden
    if grad_hidden is not None:
        spread_(grad_hidden, counted)
        grad_hidden = rounded(grad_hidden, scale, hidden.dtype)
    grad_bias = None
    if bias is not None and sums.bias is not None:
        grad_bias = rounded(sums.bias, scale, bias.dtype)
    return grad_hidden, grad_weight, grad_bias
