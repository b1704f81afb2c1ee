"""The vocabulary scan: logits once for the loss, and once more for the gradients.

The forward keeps one number a token, the logsumexp. The backward computes each tile
of logits again, makes it the logit gradient and feeds it to the two gradient
matmuls. A tile is token_chunk x vocab_chunk: nothing is ever tokens x vocabulary.

That is why this is a `custom_vjp`: differentiating the forward's scan would keep
the logits of every chunk, and take more memory than the full-logits loss.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float, Int32

from jax_impl.chunks import Chunk, bits, fold_chunks
from jax_impl.labels import IGNORED, OUT_OF_RANGE
from jax_impl.matmul import accumulation_dtype, matmul


class TwoPass(NamedTuple):
    """What is static about a call."""

    vocab_axis: int
    vocab_chunk: int
    token_chunk: int
    precision: lax.PrecisionLike


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def two_pass(
    config: TwoPass,
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    codes: Int32[Array, " N"],
) -> Float[Array, " N"]:
    """Loss of each token: 0 where ignored, NaN where the label is out of range."""
    return _forward(config, hidden, weight, bias, codes)[0]


@jax.tree_util.register_static
class _Needs(NamedTuple):
    """Which gradients were asked for: static, so that the others are never computed."""

    hidden: bool
    weight: bool
    bias: bool


class _Gradients(NamedTuple):
    """One sum for each input; None where it is not needed."""

    hidden: Array | None
    weight: Array | None
    bias: Array | None


def _two_pass_fwd(config, hidden, weight, bias, codes):
    # With symbolic_zeros every argument says whether anything depends on its gradient.
    needs = _Needs(hidden.perturbed, weight.perturbed, bias is not None and bias.perturbed)
    arrays = hidden.value, weight.value, None if bias is None else bias.value, codes.value
    losses, logsumexp = _forward(config, *arrays)
    return losses, (needs, *arrays, logsumexp)


def _two_pass_bwd(config, residuals, cotangent):
    needs, hidden, weight, bias, codes, logsumexp = residuals
    if isinstance(cotangent, SymbolicZero):
        return None, None, None, None
    hidden, weight, bias, cotangent = _once_differentiable((hidden, weight, bias, cotangent))
    grads = _backward(config, needs, hidden, weight, bias, codes, logsumexp, cotangent)
    return *grads, None


two_pass.defvjp(_two_pass_fwd, _two_pass_bwd, symbolic_zeros=True)


@jax.custom_jvp
def _once_differentiable(arrays):
    return arrays


@_once_differentiable.defjvp
def _refuse_second_derivative(primals, tangents):
    raise TypeError(
        "linear_cross_entropy: second derivatives are not supported; "
        "use standard_linear_cross_entropy"
    )


# Jitted here so that a call outside `jit` does not trace its scan again every time.
@functools.partial(jax.jit, static_argnums=0)
def _forward(
    config: TwoPass,
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    codes: Int32[Array, " N"],
) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
    """The loss and the logsumexp of each token, by an online softmax over the chunks."""
    num_tokens, vocab_size = hidden.shape[0], weight.shape[config.vocab_axis]
    dtype = accumulation_dtype(hidden.dtype)

    def token_block(outputs, tokens: Chunk):
        hidden_block, codes_block = tokens.take(hidden), tokens.take(codes)

        def vocab_block(statistics, vocab: Chunk):
            running_max, running_sum, label_logit = statistics
            weight_chunk = vocab.take(weight, config.vocab_axis)
            logits = _logits(config, hidden_block, weight_chunk, bias, vocab)
            new_max = jnp.maximum(running_max, jnp.max(logits, axis=1))
            # A row of -inf alone (classes masked by the bias) must not give inf - inf.
            shift = jnp.where(new_max == -jnp.inf, 0, new_max)
            running_sum *= jnp.exp(running_max - shift)
            running_sum += jnp.sum(jnp.exp(logits - shift[:, None]), axis=1)
            label_logit += jnp.sum(jnp.where(_one_hot(codes_block, vocab), logits, 0), axis=1)
            return new_max, running_sum, label_logit

        zeros = jnp.zeros(tokens.size, dtype)
        running_max, running_sum, label_logit = fold_chunks(
            vocab_size, config.vocab_chunk, vocab_block, (zeros - jnp.inf, zeros, zeros)
        )
        logsumexp = running_max + jnp.log(running_sum)
        losses = jnp.where(codes_block == IGNORED, 0, logsumexp - label_logit)
        losses = jnp.where(codes_block == OUT_OF_RANGE, jnp.nan, losses)
        # Rows seen twice get the same numbers twice.
        return tokens.put(outputs[0], losses), tokens.put(outputs[1], logsumexp)

    zeros = jnp.zeros(num_tokens, dtype)
    return fold_chunks(num_tokens, config.token_chunk, token_block, (zeros, zeros))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _backward(
    config: TwoPass,
    needs: _Needs,
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    bias: Float[Array, " V"] | None,
    codes: Int32[Array, " N"],
    logsumexp: Float[Array, " N"],
    cotangent: Float[Array, " N"],
) -> _Gradients:
    """Gradients of hidden, weight and bias; None for those not needed."""
    vocab_axis, dtype = config.vocab_axis, logsumexp.dtype
    matmul_ = functools.partial(matmul, precision=config.precision)

    cotangent = jnp.where(codes == IGNORED, 0, cotangent)
    scale = _power_of_two(cotangent) if hidden.dtype != dtype else jnp.ones((), dtype)
    coefficient = cotangent / scale
    logsumexp = jnp.where(codes == OUT_OF_RANGE, jnp.nan, logsumexp)

    def vocab_block(grads: _Gradients, vocab: Chunk) -> _Gradients:
        weight_chunk = vocab.take(weight, vocab_axis)

        def token_block(sums: _Gradients, tokens: Chunk) -> _Gradients:
            hidden_block = tokens.take(hidden)
            logits = _logits(config, hidden_block, weight_chunk, bias, vocab)
            probability = jnp.exp(logits - tokens.take(logsumexp)[:, None])
            one_hot = _one_hot(tokens.take(codes), vocab).astype(dtype)
            row_coefficient = tokens.take(coefficient)
            if tokens.is_ragged:
                row_coefficient = jnp.where(tokens.fresh(), row_coefficient, 0)
            grad_logits = (probability - one_hot) * row_coefficient[:, None]

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
            return _Gradients(sum_hidden, sum_weight, sum_bias)

        # The gradient of hidden grows over all chunks; the others begin with this one.
        chunk = fold_chunks(
            hidden.shape[0],
            config.token_chunk,
            token_block,
            _Gradients(
                grads.hidden,
                jnp.zeros(weight_chunk.shape, dtype) if needs.weight else None,
                jnp.zeros(vocab.size, dtype) if needs.bias else None,
            ),
        )

        def put(whole: Array | None, rows: Array | None, axis: int) -> Array | None:
            if whole is None or rows is None:
                return None
            return vocab.put_fresh(whole, bits((rows * scale).astype(hidden.dtype)), axis)

        return _Gradients(
            chunk.hidden,
            put(grads.weight, chunk.weight, vocab_axis),
            put(grads.bias, chunk.bias, 0),
        )

    # Gradients that are put together chunk by chunk travel as bits: see `bits`.
    grads = fold_chunks(
        weight.shape[vocab_axis],
        config.vocab_chunk,
        vocab_block,
        _Gradients(
            jnp.zeros(hidden.shape, dtype) if needs.hidden else None,
            jnp.zeros_like(bits(weight)) if needs.weight else None,
            jnp.zeros_like(bits(bias)) if bias is not None and needs.bias else None,
        ),
    )
    return _Gradients(
        None if grads.hidden is None else (grads.hidden * scale).astype(hidden.dtype),
        None if grads.weight is None else lax.bitcast_convert_type(grads.weight, hidden.dtype),
        None if grads.bias is None else lax.bitcast_convert_type(grads.bias, hidden.dtype),
    )


def _logits(config, hidden_block, weight_chunk, bias, vocab: Chunk) -> Float[Array, "T C"]:
    """A tile of logits; columns that an earlier chunk has seen are -inf and count nothing."""
    logits = matmul(
        hidden_block,
        weight_chunk,
        contract=(1, 1 - config.vocab_axis),
        precision=config.precision,
    )
    if bias is not None:
        logits += vocab.take(bias).astype(logits.dtype)
    if vocab.is_ragged:
        logits = jnp.where(vocab.fresh(), logits, -jnp.inf)
    return logits


def _one_hot(codes: Int32[Array, " T"], vocab: Chunk):
    """Where the label of a row is the class of a column, for columns not seen before.

    A dense comparison, which XLA fuses into what reads it; a scatter it would not.
    """
    hit = vocab.rows()[None, :] == codes[:, None]
    return hit & vocab.fresh()[None, :] if vocab.is_ragged else hit


def _power_of_two(cotangent: Float[Array, " N"]) -> Float[Array, ""]:
    """The size of the cotangent as a power of two, 1 where it has none.

    Taken out before the logit gradient is rounded to 16 bits and put back in the
    float32 sums: a mean over many tokens scales by 1/N, and float16 has no room for
    a probability times that. A power of two, so that both steps are exact.
    """
    largest = jnp.max(jnp.abs(cotangent), initial=0)
    exponent = jnp.frexp(jnp.where(jnp.isfinite(largest), largest, 1))[1]
    return jnp.ldexp(jnp.ones((), cotangent.dtype), exponent)
