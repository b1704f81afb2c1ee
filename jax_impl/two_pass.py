"""The vocabulary scan: logits once for the loss, and once more for the gradients.

The forward keeps a few numbers a token, the statistics of its softmax. The backward
computes each tile of logits again, makes it the logit gradient and feeds it to the two
gradient matmuls. A tile is token_chunk x vocab_chunk: nothing is ever tokens x
vocabulary.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

from jax_impl.chunks import Chunk, bits, fold_chunks
from jax_impl.labels import is_label
from jax_impl.logits import capped_logits
from jax_impl.matmul import accumulation_dtype, matmul
from jax_impl.objective import (
    Coefficients,
    gradient_coefficients,
    logit_gradient,
    token_losses,
)
from jax_impl.statistics import Statistics, start_statistics, update_statistics
from loss_spec import Objective


class TwoPass(NamedTuple):
    """What is static about a call."""

    objective: Objective
    vocab_axis: int
    vocab_chunk: int
    token_chunk: int
    prediction: bool
    precision: lax.PrecisionLike


class Needs(NamedTuple):
    """Which gradients were asked for: static, so that the others are never computed."""

    hidden: bool
    weight: bool
    bias: bool


class Gradients(NamedTuple):
    """One sum for each input; None where it is not needed."""

    hidden: Array | None
    weight: Array | None
    bias: Array | None


# Jitted here so that a call outside `jit` does not trace its scan again every time.
@functools.partial(jax.jit, static_argnums=0)
def two_pass_forward(
    config: TwoPass,
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    class_weight: Float[Array, " V"] | None,
    codes: Int32[Array, " N"],
) -> tuple[Float[Array, " N"], Statistics]:
    """Loss of each token, and the statistics of its logits: an online softmax.

    The loss is 0 where a token is ignored and NaN where its label is out of range.
    """
    num_tokens, vocab_size = hidden.shape[0], weight.shape[config.vocab_axis]
    dtype = accumulation_dtype(hidden.dtype)
    smoothing = config.objective.label_smoothing > 0
    start = functools.partial(
        start_statistics, dtype=dtype, weighted_sum=smoothing, prediction=config.prediction
    )

    def token_block(outputs: Statistics, tokens: Chunk) -> Statistics:
        hidden_block, codes_block = tokens.take(hidden), tokens.take(codes)

        def vocab_block(carry: Any, vocab: Chunk) -> Any:
            statistics, seen_weight = carry
            weight_chunk = vocab.take(weight, config.vocab_axis)
            logits, _ = _logits(config, hidden_block, weight_chunk, bias, vocab)
            chunk_weight = None
            if smoothing and class_weight is not None:
                chunk_weight = vocab.take(class_weight)
            return update_statistics(
                statistics, seen_weight, logits, codes_block, vocab, chunk_weight
            )

        nothing = (start(tokens.size), jnp.zeros((), dtype))
        statistics, _ = fold_chunks(vocab_size, config.vocab_chunk, vocab_block, nothing)
        # Rows seen twice get the same numbers twice.
        return jax.tree.map(tokens.put, outputs, statistics)

    statistics = fold_chunks(num_tokens, config.token_chunk, token_block, start(num_tokens))
    return token_losses(config.objective, statistics, codes, class_weight, vocab_size), statistics


@functools.partial(jax.jit, static_argnums=(0, 1))
def two_pass_backward(
    config: TwoPass,
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
    vocab_axis, dtype = config.vocab_axis, cotangent.dtype
    vocab_size = weight.shape[vocab_axis]
    matmul_ = functools.partial(matmul, precision=config.precision)

    coefficients = gradient_coefficients(
        config.objective, statistics, codes, class_weight, vocab_size, cotangent
    )
    scale = _power_of_two(coefficients) if hidden.dtype != dtype else jnp.ones((), dtype)
    coefficients = jax.tree.map(lambda rows: rows / scale, coefficients)
    shift = statistics.shift

    def vocab_block(grads: Gradients, vocab: Chunk) -> Gradients:
        weight_chunk = vocab.take(weight, vocab_axis)
        chunk_weight = None if class_weight is None else vocab.take(class_weight)

        def token_block(sums: Gradients, tokens: Chunk) -> Gradients:
            hidden_block = tokens.take(hidden)
            logits, slope = _logits(config, hidden_block, weight_chunk, bias, vocab)
            grad_logits = logit_gradient(
                jnp.exp(logits - tokens.take(shift)[:, None]),
                slope,
                is_label(tokens.take(codes), vocab),
                chunk_weight,
                tokens.take(statistics.exp_sum),
                jax.tree.map(tokens.take, coefficients),
            )
            if (fresh := _fresh(tokens, vocab)) is not None:
                grad_logits = jnp.where(fresh, grad_logits, 0)

            sum_hidden, sum_weight, sum_bias = sums
            if sum_bias is not None:
                sum_bias += jnp.sum(grad_logits, axis=0)
            # 16-bit inputs: a float32 operand would leave the tensor cores.
            grad_logits = grad_logits.astype(hidden.dtype)
            if sum_hidden is not None:
                product = matmul_(grad_logits, weight_chunk, contract=(1, vocab_axis))
                sum_hidden = tokens.put(sum_hidden, tokens.take(sum_hidden) + product)
            if sum_weight is not None:
                pair = (grad_logits, hidden_block)
                sum_weight += matmul_(*(pair if vocab_axis == 0 else pair[::-1]), contract=(0, 0))
            return Gradients(sum_hidden, sum_weight, sum_bias)

        # The gradient of hidden grows over all chunks; the others begin with this one.
        chunk = fold_chunks(
            hidden.shape[0],
            config.token_chunk,
            token_block,
            Gradients(
                grads.hidden,
                jnp.zeros(weight_chunk.shape, dtype) if needs.weight else None,
                jnp.zeros(vocab.size, dtype) if needs.bias else None,
            ),
        )

        def put(whole: Array | None, rows: Array | None, axis: int) -> Array | None:
            if whole is None or rows is None:
                return None
            return vocab.put_fresh(whole, bits((rows * scale).astype(hidden.dtype)), axis)

        return Gradients(
            chunk.hidden,
            put(grads.weight, chunk.weight, vocab_axis),
            put(grads.bias, chunk.bias, 0),
        )

    # Gradients that are put together chunk by chunk travel as bits: see `bits`.
    grads = fold_chunks(
        vocab_size,
        config.vocab_chunk,
        vocab_block,
        Gradients(
            jnp.zeros(hidden.shape, dtype) if needs.hidden else None,
            jnp.zeros_like(bits(weight)) if needs.weight else None,
            jnp.zeros_like(bits(bias)) if bias is not None and needs.bias else None,
        ),
    )
    return Gradients(
        None if grads.hidden is None else (grads.hidden * scale).astype(hidden.dtype),
        None if grads.weight is None else lax.bitcast_convert_type(grads.weight, hidden.dtype),
        None if grads.bias is None else lax.bitcast_convert_type(grads.bias, hidden.dtype),
    )


def _logits(
    config: TwoPass, hidden_block: Array, weight_chunk: Array, bias: Array | None, vocab: Chunk
) -> tuple[Float[Array, "T C"], Float[Array, "T C"] | None]:
    """A tile of logits and the slope of its softcap."""
    return capped_logits(
        config.objective,
        hidden_block,
        weight_chunk,
        None if bias is None else vocab.take(bias),
        vocab_axis=config.vocab_axis,
        precision=config.precision,
    )


def _fresh(tokens: Chunk, vocab: Chunk) -> Bool[Array, "#T #C"] | None:
    """Which entries of a tile no earlier tile has held; None where that is all of them."""
    rows = tokens.fresh()[:, None] if tokens.is_ragged else None
    columns = vocab.fresh()[None, :] if vocab.is_ragged else None
    if rows is None or columns is None:
        return columns if rows is None else rows
    return rows & columns


def _power_of_two(coefficients: Coefficients) -> Float[Array, ""]:
    """The size of the largest coefficient as a power of two, 1 where all are 0.

    Taken out before the logit gradient is rounded to 16 bits and put back in the
    float32 sums: a mean over many tokens scales by 1/N, and float16 has no room for
    a probability times that. A power of two, so that both steps are exact.
    """
    rows = jnp.stack([jnp.abs(rows) for rows in jax.tree.leaves(coefficients)])
    largest = jnp.max(rows, initial=0)
    exponent = jnp.frexp(jnp.where(jnp.isfinite(largest), largest, 1))[1]
    return jnp.ldexp(jnp.ones((), largest.dtype), exponent)
