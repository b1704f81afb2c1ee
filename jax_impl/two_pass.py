"""Logits once for the loss, and once more for the gradients.

The forward keeps a few numbers a token, the statistics of its softmax. The backward
computes each tile of logits again, makes it the logit gradient and feeds it to the two
gradient matmuls. A tile is token_chunk x vocab_chunk: nothing is ever tokens x
vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32

from jax_impl.chunks import Chunk, bits, fold_chunks, is_widened
from jax_impl.config import Config, Gradients
from jax_impl.gradients import add_token_block, class_chunk_gradients, zero_sums
from jax_impl.matmul import accumulation_dtype
from jax_impl.objective import (
    Coefficients,
    gradient_coefficients,
    power_of_two,
    token_losses,
)
from jax_impl.statistics import Statistics, start_statistics, update_statistics
from jax_impl.tile import tile_scores
from jax_impl.tokens import TokenBlock, Tokens, order_tokens
from loss_spec import Needs
from loss_spec.workspace import NUM_PARTS

# XLA's CPU compiler turns bits into floats by a copy, and puts floats into a buffer by a
# pass over all of it. So parts of the gradient are put together as bits, and a few times
# only put into the whole: the copy is one of a part, of which there are NUM_PARTS.


# Jitted here so that a call outside `jit` does not trace its scan again every time.
@functools.partial(jax.jit, static_argnums=0)
def two_pass_forward(
    config: Config,
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    class_weight: Float[Array, " V"] | None,
    codes: Int32[Array, " N"],
) -> tuple[Float[Array, " N"], Statistics]:
    """Loss of each token, and the statistics of its logits: an online softmax.

    The loss is 0 where a token is ignored and NaN where its label is out of range.
    """
    vocab_size = weight.shape[config.vocab_axis]
    dtype = accumulation_dtype(hidden.dtype)
    factor, smoothing = config.objective.logit_factor, config.objective.label_smoothing > 0
    tokens = order_tokens(codes, config.token_chunk)
    start = functools.partial(
        start_statistics, dtype=dtype, weighted_sum=smoothing, prediction=config.prediction
    )

    def token_block(outputs: Statistics, block: TokenBlock) -> Statistics:
        block_codes = block.take(tokens.codes)
        hidden_block = block.hidden(hidden, block_codes)

        def vocab_block(carry: Any, vocab: Chunk) -> Any:
            scores = tile_scores(config, hidden_block, weight, bias, vocab)
            chunk_weight = None
            if smoothing and class_weight is not None:
                chunk_weight = vocab.take(class_weight)
            seen, seen_weight = carry
            return update_statistics(
                factor, seen, seen_weight, scores, block_codes, vocab, chunk_weight
            )

        nothing = (start(block.size), jnp.zeros((), dtype))
        statistics, _ = fold_chunks(vocab_size, config.vocab_chunk, vocab_block, nothing)
        return jax.tree.map(block.put, outputs, statistics)

    ordered = tokens.fold(token_block, start(len(tokens.codes)))
    statistics = jax.tree.map(tokens.restore, ordered)
    return token_losses(config.objective, statistics, codes, class_weight, vocab_size), statistics


@functools.partial(jax.jit, static_argnums=(0, 1))
def two_pass_backward(
    config: Config,
    needs: Needs,
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    class_weight: Float[Array, " V"] | None,
    codes: Int32[Array, " N"],
    statistics: Statistics,
    cotangent: Float[Array, " N"],
) -> Gradients:
    """Gradients of hidden, weight and bias; None for those not needed."""
    vocab_size = weight.shape[config.vocab_axis]
    coefficients = gradient_coefficients(
        config.objective, statistics, codes, class_weight, vocab_size, cotangent
    )
    tokens = order_tokens(codes, config.token_chunk)
    arrays = hidden, weight, bias, class_weight
    # The exponentials of ignored tokens are 0: they must not overflow.
    shift = tokens.order(statistics.shift, ignored=jnp.inf)
    if hidden.dtype == cotangent.dtype:
        coefficients = jax.tree.map(tokens.order, coefficients)
        return _by_tokens(config, needs, tokens, *arrays, shift, coefficients)
    scale = power_of_two(coefficients)
    coefficients = jax.tree.map(lambda rows: tokens.order(rows / scale), coefficients)
    return _by_classes(config, needs, tokens, *arrays, shift, coefficients, scale)


def _by_tokens(
    config: Config,
    needs: Needs,
    tokens: Tokens,
    hidden: Array,
    weight: Array,
    bias: Array | None,
    class_weight: Array | None,
    shift: Float[Array, " M"],
    coefficients: Coefficients,
) -> Gradients:
    """For inputs of the accumulation dtype: the gradients are their own sums."""

    def token_block(sums: Gradients, block: TokenBlock) -> Gradients:
        codes, block_shift, block_coefficients = jax.tree.map(
            block.take, (tokens.codes, shift, coefficients)
        )
        hidden_block = block.hidden(hidden, codes)
        scores_of_chunk = functools.partial(tile_scores, config, hidden_block, weight, bias)
        return add_token_block(
            config,
            sums,
            block,
            hidden_block,
            weight,
            class_weight,
            codes,
            block_shift,
            block_coefficients,
            scores_of_chunk,
            config.vocab_chunk,
        )

    return tokens.fold(token_block, zero_sums(needs, hidden, weight, bias, hidden.dtype))


def _by_classes(
    config: Config,
    needs: Needs,
    tokens: Tokens,
    hidden: Array,
    weight: Array,
    bias: Array | None,
    class_weight: Array | None,
    shift: Float[Array, " M"],
    coefficients: Coefficients,
    scale: Float[Array, ""],
) -> Gradients:
    """For 16-bit inputs: a wide sum as large as hidden, and one of a chunk of the weight."""
    vocab_size, axis = weight.shape[config.vocab_axis], config.vocab_axis
    arrays = hidden, weight, bias, class_weight, shift, coefficients

    def vocab_block(part: Chunk, sums: Gradients, inner: Chunk) -> Gradients:
        vocab = part.part(inner)
        chunk = class_chunk_gradients(config, needs, sums.hidden, tokens, *arrays, vocab)
        part_weight, sum_bias = sums.weight, sums.bias
        if part_weight is not None:
            rows = (chunk.weight * scale).astype(hidden.dtype)
            part_weight = inner.put(part_weight, bits(rows), axis)
        if sum_bias is not None:
            sum_bias = vocab.put(sum_bias, chunk.bias)
        return Gradients(chunk.hidden, part_weight, sum_bias)

    def vocab_part(sums: Gradients, part: Chunk) -> Gradients:
        # A gradient that is put together chunk by chunk travels as bits: see `bits`.
        whole = sums.weight
        nothing = None if whole is None else jnp.zeros_like(bits(part.take(whole, axis)))
        step = functools.partial(vocab_block, part)
        found = fold_chunks(part.size, config.vocab_chunk, step, sums._replace(weight=nothing))
        if whole is not None:
            rows = lax.bitcast_convert_type(found.weight, hidden.dtype)
            whole = part.put(whole, rows, axis)
        return found._replace(weight=whole)

    part_size = vocab_size
    if is_widened(weight):
        part_size = -(-vocab_size // (NUM_PARTS * config.vocab_chunk)) * config.vocab_chunk
    nothing = Gradients(
        jnp.zeros((len(tokens.codes), hidden.shape[1]), shift.dtype) if needs.hidden else None,
        jnp.zeros_like(weight) if needs.weight else None,
        jnp.zeros(vocab_size, shift.dtype) if bias is not None and needs.bias else None,
    )
    sums = fold_chunks(vocab_size, part_size, vocab_part, nothing)

    def rounded(total: Array | None) -> Array | None:
        return None if total is None else (total * scale).astype(hidden.dtype)

    grad_hidden = rounded(sums.hidden)
    if grad_hidden is not None:
        grad_hidden = tokens.restore(grad_hidden)
    return Gradients(grad_hidden, sums.weight, rounded(sums.bias))
