"""Logits once: the gradients are formed while a block of tokens has its logits.

Three matmuls where `two_pass` has four, for a larger tile: token_chunk x V. The sum or
mean is part of it, since the gradients must know what each token's loss counts for; the
cotangent of the loss, which comes later, only scales them.

The gradients of a block walk the vocabulary in chunks and add to slices of dW: no product
of the size of the weight is ever a temporary.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from jax_impl.chunks import Chunk, is_widened, keep_chunks
from jax_impl.config import Config, Gradients
from jax_impl.gradients import add_token_block, zero_sums
from jax_impl.matmul import accumulation_dtype
from jax_impl.objective import gradient_coefficients, power_of_two, token_losses
from jax_impl.reduction import reduce_losses, token_shares
from jax_impl.statistics import Statistics, start_statistics, update_statistics
from jax_impl.tile import tile_scores
from jax_impl.tokens import TokenBlock, order_tokens
from loss_spec import Needs


@functools.partial(jax.jit, static_argnums=(0, 1))
def one_pass_forward(
    config: Config,
    needs: Needs,
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    class_weight: Float[Array, " V"] | None,
    token_weight: Float[Array, " N"] | None,
    codes: Int32[Array, " N"],
) -> tuple[Float[Array, ""], Statistics, Gradients, Float[Array, ""]]:
    """The sum or mean, the statistics, and the gradients, which are for a cotangent of 1
    what is returned times the power of two beside it.

    They are float32 sums (float64 for float64 inputs): what is lost by rounding them
    cannot be had back when the cotangent scales them.
    """
    vocab_size = weight.shape[config.vocab_axis]
    dtype = accumulation_dtype(hidden.dtype)
    factor, smoothing = config.objective.logit_factor, config.objective.label_smoothing > 0
    shares = token_shares(codes, class_weight, token_weight, config.reduction, dtype)
    scale = jnp.ones((), dtype)
    if hidden.dtype != dtype:
        # The same for all blocks, so not of the coefficients, but of what bounds them.
        bound = shares * config.objective.logit_scale
        scale = power_of_two(
            bound if class_weight is None else bound * jnp.max(jnp.abs(class_weight))
        )
    # One matmul for all scores of a block is faster, and one for all their gradients. They
    # are made and kept by chunks where XLA would want a second buffer of their size, or a
    # float32 weight.
    is_capped = config.objective.logit_softcap is not None
    by_chunks = is_widened(hidden) or bias is not None or smoothing or is_capped
    span_size = config.vocab_chunk if by_chunks else vocab_size
    # A GPU's compiler splits long sums, and pads what does not divide: the whole weight.
    sum_size = config.vocab_chunk if jax.default_backend() == "gpu" else span_size

    tokens = order_tokens(codes, config.token_chunk)
    shares = tokens.order(shares / scale)
    start = functools.partial(
        start_statistics, dtype=dtype, weighted_sum=smoothing, prediction=config.prediction
    )

    def token_block(carry: tuple[Statistics, Gradients], block: TokenBlock) -> Any:
        outputs, sums = carry
        block_codes = block.take(tokens.codes)
        hidden_block = block.hidden(hidden, block_codes)
        scores_of_chunk = functools.partial(tile_scores, config, hidden_block, weight, bias)

        def observe(carry: Any, scores: Array, vocab: Chunk) -> Any:
            weights = vocab.take(class_weight) if smoothing and class_weight is not None else None
            seen, seen_weight = carry
            return update_statistics(factor, seen, seen_weight, scores, block_codes, vocab, weights)

        nothing = (start(block.size), jnp.zeros((), dtype))
        kept, (statistics, _) = keep_chunks(
            vocab_size, span_size, scores_of_chunk, observe, nothing
        )
        coefficients = gradient_coefficients(
            config.objective,
            statistics,
            block_codes,
            class_weight,
            vocab_size,
            block.take(shares),
        )
        sums = add_token_block(
            config,
            sums,
            block,
            hidden_block,
            weight,
            class_weight,
            block_codes,
            statistics.shift,
            coefficients,
            kept.take,
            sum_size,
        )
        return jax.tree.map(block.put, outputs, statistics), sums

    nothing = (start(len(tokens.codes)), zero_sums(needs, hidden, weight, bias, dtype))
    ordered, sums = tokens.fold(token_block, nothing)
    statistics = jax.tree.map(tokens.restore, ordered)
    losses = token_losses(config.objective, statistics, codes, class_weight, vocab_size)
    loss = reduce_losses(losses, codes, class_weight, token_weight, config.reduction)
    return loss, statistics, sums, scale
