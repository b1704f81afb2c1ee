"""Logits once: the gradients are formed while a block of tokens has its logits.

Three matmuls where `two_pass` has four, for a larger tile: token_chunk x V. The sum or
mean is part of it, since the gradients must know what each token's loss counts for; the
cotangent of the loss, which comes later, only scales them.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float, Int64
from torch import Tensor

from loss_spec import Needs
from torch_impl.chunks import chunks, slabs
from torch_impl.config import Config
from torch_impl.gradients import Sums, add_tile_, spread_, start_sums
from torch_impl.matmul import accumulation_dtype
from torch_impl.objective import (
    gradient_coefficients,
    logit_gradient_,
    power_of_two,
    token_losses,
)
from torch_impl.reduction import reduce_losses, token_shares
from torch_impl.statistics import Statistics, start_statistics, update_statistics_
from torch_impl.tile import Tiles
from torch_impl.tokens import counted_tokens, take, token_blocks


class OnePass(NamedTuple):
    """The gradients for a cotangent of 1 are `scale` times the sums."""

    loss: Float[Tensor, ""]
    statistics: Statistics
    sums: Sums
    scale: Float[Tensor, ""]


def one_pass_forward(
    config: Config,
    needs: Needs,
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    class_weight: Float[Tensor, " V"] | None,
    token_weight: Float[Tensor, " N"] | None,
    codes: Int64[Tensor, " N"],
) -> OnePass:
    """The sum or mean, the statistics, and the sums that become the gradients.

    They stay float32 (float64 for float64 inputs): what is lost by rounding them cannot be
    had back when the cotangent scales them.
    """
    num_tokens, vocab_size = hidden.shape[0], weight.shape[0]
    dtype, objective = accumulation_dtype(config.dtype), config.objective
    shares = token_shares(codes, class_weight, token_weight, config.reduction, dtype)
    scale = shares.new_ones(())
    if config.dtype != dtype:
        # The same for all blocks, so not of the coefficients, but of what bounds them.
        bound = shares * objective.logit_scale
        scale = power_of_two(bound if class_weight is None else bound * class_weight.abs().amax())
        shares /= scale

    options = {"weighted_sum": objective.label_smoothing > 0, "prediction": config.prediction}
    statistics = start_statistics(num_tokens, dtype, hidden.device, **options)
    tiles = Tiles(config, hidden, weight, vocab_size)
    counted = counted_tokens(codes)
    blocks = list(token_blocks(num_tokens, counted, config.token_chunk))
    sums = start_sums(needs, hidden, weight, dtype, is_empty=not blocks)
    for index, (rows, place) in enumerate(blocks):
        block, block_codes = tiles.hidden(hidden, codes, rows), take(codes, rows)
        scores = tiles.all_scores(block, weight, bias)
        seen = start_statistics(len(block), dtype, hidden.device, **options)
        _to_gradient_(config, tiles, scores, seen, block_codes, class_weight, take(shares, rows))
        statistics.put_(rows, seen)
        for vocab in chunks(vocab_size, config.vocab_chunk):
            chunk_sums, chunk = sums.of_classes(vocab), tiles.weight(weight, vocab)
            gradient = scores[:, vocab]
            add_tile_(chunk_sums, tiles, gradient, block, chunk, place, is_first=index == 0)
    if sums.hidden is not None:
        spread_(sums.hidden, counted)

    losses = token_losses(objective, statistics, codes, class_weight, vocab_size)
    loss = reduce_losses(losses, codes, class_weight, token_weight, config.reduction)
    return OnePass(loss, statistics, sums, scale)


def _to_gradient_(
    config: Config,
    tiles: Tiles,
    scores: Float[Tensor, "T V"],
    seen: Statistics,
    codes: Int64[Tensor, " T"],
    class_weight: Float[Tensor, " V"] | None,
    shares: Float[Tensor, " T"],
) -> None:
    """Scores of all classes to the gradient of the bare products, and their statistics."""
    objective, every = config.objective, slice(0, scores.shape[1])
    for slab in slabs(scores):
        rows, rows_seen, rows_codes = scores[slab], seen.rows(slab), codes[slab]
        slope = tiles.slope(rows)
        update_statistics_(
            objective.logit_factor, rows_seen, 0.0, rows, rows_codes, every, class_weight
        )
        coefficients = gradient_coefficients(
            objective, rows_seen, rows_codes, class_weight, scores.shape[1], shares[slab]
        )
        logit_gradient_(rows, slope, rows_codes, every, class_weight, coefficients)
