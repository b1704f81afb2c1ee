"""The loops that turn tiles of scores into gradients, in two orders.

`add_token_block` walks the vocabulary for one block of tokens: the gradient of its hidden
is finished with it, that of the weight grows from block to block, in the accumulation
dtype. `class_chunk_gradients` walks the tokens for one chunk of the vocabulary: the
gradient of its weight is finished with it, that of hidden grows. With 16-bit inputs the
one that grows needs a buffer of its own, wider than the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from jax_impl.chunks import Chunk, fold_chunks
from jax_impl.config import Config, Gradients
from jax_impl.matmul import operand_dtype
from jax_impl.objective import Coefficients
from jax_impl.tile import hidden_product, tile_gradient, tile_scores, weight_product
from jax_impl.tokens import TokenBlock, Tokens
from loss_spec import Needs


def zero_sums(
    needs: Needs, hidden: Array, weight: Array, bias: Array | None, dtype: jnp.dtype
) -> Gradients:
    """A sum of zeros for each gradient that is needed."""
    return Gradients(
        jnp.zeros(hidden.shape, dtype) if needs.hidden else None,
        jnp.zeros(weight.shape, dtype) if needs.weight else None,
        jnp.zeros(bias.shape, dtype) if bias is not None and needs.bias else None,
    )


def add_token_block(
    config: Config,
    sums: Gradients,
    block: TokenBlock,
    hidden_block: Float[Array, "T D"],
    weight: Array,
    class_weight: Float[Array, " V"] | None,
    codes: Int32[Array, " T"],
    shift: Float[Array, " T"],
    coefficients: Coefficients,
    scores_of_chunk: Callable[[Chunk], Float[Array, "T S"]],
    span_size: int,
) -> Gradients:
    """Adds the gradients of one block of tokens, whose scores are kept or found again.

    Scores become gradients in spans of the vocabulary; the product that adds to the
    gradient of the weight goes by chunks of it.
    """
    dtype, axis = shift.dtype, config.vocab_axis

    def vocab_span(carry: Gradients, span: Chunk) -> Gradients:
        block_hidden, sum_weight, sum_bias = carry
        gradient = tile_gradient(
            config,
            scores_of_chunk(span),
            codes,
            shift,
            coefficients,
            class_weight,
            span,
        )
        if sum_bias is not None:
            sum_bias = span.put(sum_bias, span.take(sum_bias) + jnp.sum(gradient, axis=0))
        # 16-bit inputs: a float32 operand would leave the tensor cores.
        gradient = gradient.astype(operand_dtype(hidden_block.dtype))
        if block_hidden is not None:
            block_hidden += hidden_product(config, gradient, weight, span)

        def add_product(sum_weight: Array, inner: Chunk) -> Array:
            vocab = span.part(inner)
            product = weight_product(config, inner.take(gradient, 1), hidden_block)
            return vocab.put(sum_weight, vocab.take(sum_weight, axis) + product, axis)

        if sum_weight is not None:
            sum_weight = fold_chunks(span.size, config.vocab_chunk, add_product, sum_weight)
        return Gradients(block_hidden, sum_weight, sum_bias)

    nothing = None if sums.hidden is None else jnp.zeros(hidden_block.shape, dtype)
    block_sums = sums._replace(hidden=nothing)
    vocab_size = weight.shape[config.vocab_axis]
    found = fold_chunks(vocab_size, span_size, vocab_span, block_sums)
    if sums.hidden is None or block.size == len(sums.hidden):
        return found
    # Each token is in one block.
    if block.rows is None:
        return found._replace(hidden=block.put(sums.hidden, found.hidden))
    # Those that are ignored have no row, and keep their 0.
    return found._replace(hidden=sums.hidden.at[block.rows].set(found.hidden, mode="drop"))


def class_chunk_gradients(
    config: Config,
    needs: Needs,
    grad_hidden: Float[Array, "M D"] | None,
    tokens: Tokens,
    hidden: Float[Array, "N D"],
    weight: Array,
    bias: Array | None,
    class_weight: Float[Array, " V"] | None,
    shift: Float[Array, " M"],
    coefficients: Coefficients,
    vocab: Chunk,
) -> Gradients:
    """The gradient of one chunk of the weight and bias, and what it adds to that of hidden.

    Shift, coefficients and the gradient of hidden are in the order of the tokens.
    """
    dtype = shift.dtype
    weight_chunk = vocab.take(weight, config.vocab_axis)

    def token_block(sums: Gradients, block: TokenBlock) -> Gradients:
        sum_hidden, sum_weight, sum_bias = sums

        def take(ordered: Any) -> Any:
            return jax.tree.map(block.take, ordered)

        codes = take(tokens.codes)
        hidden_block = block.hidden(hidden, codes)
        gradient = tile_gradient(
            config,
            tile_scores(config, hidden_block, weight, bias, vocab),
            codes,
            take(shift),
            take(coefficients),
            class_weight,
            vocab,
        )
        if sum_bias is not None:
            sum_bias += jnp.sum(gradient, axis=0)
        gradient = gradient.astype(operand_dtype(hidden.dtype))
        if sum_hidden is not None:
            product = hidden_product(config, gradient, weight, vocab)
            sum_hidden = block.put(sum_hidden, block.take(sum_hidden) + product)
        if sum_weight is not None:
            sum_weight += weight_product(config, gradient, hidden_block)
        return Gradients(sum_hidden, sum_weight, sum_bias)

    nothing = Gradients(
        grad_hidden,
        jnp.zeros(weight_chunk.shape, dtype) if needs.weight else None,
        jnp.zeros(vocab.size, dtype) if bias is not None and needs.bias else None,
    )
    return tokens.fold(token_block, nothing)
