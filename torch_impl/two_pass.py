"""The vocabulary loop: logits once for the loss, and once more for the gradients.

The forward keeps one number a token, the logsumexp. The backward computes each tile
of logits again, makes it the logit gradient and feeds it to the two gradient
matmuls. A tile is token_chunk x vocab_chunk: nothing is ever tokens x vocabulary.

Buffers are allocated once and every step on a tile happens in place. No value is
read on the host, so on a GPU nothing waits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from torch_impl.chunks import chunks
from torch_impl.labels import IGNORED, OUT_OF_RANGE
from torch_impl.matmul import accumulation_dtype, matmul_into


class TwoPass(NamedTuple):
    """What is static about a call."""

    vocab_chunk: int
    token_chunk: int


def two_pass(
    config: TwoPass,
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    codes: Int64[Tensor, " N"],
) -> Float[Tensor, " N"]:
    """Loss of each token: 0 where ignored, NaN where the label is out of range.

    `weight` may have any strides: a transposed view of [D, V] costs nothing.
    """
    return _TwoPassFunction.apply(hidden, weight, bias, codes, config)[0]


class _Needs(NamedTuple):
    """Which gradients were asked for; the others are never computed."""

    hidden: bool
    weight: bool
    bias: bool


class _TwoPassFunction(torch.autograd.Function):
    @staticmethod
    def forward(
        hidden: Tensor, weight: Tensor, bias: Tensor | None, codes: Tensor, config: TwoPass
    ) -> tuple[Tensor, Tensor]:
        return _forward(config, hidden, weight, bias, codes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        hidden, weight, bias, codes, ctx.config = inputs
        logsumexp = output[1]
        ctx.mark_non_differentiable(logsumexp)
        ctx.save_for_backward(hidden, weight, bias, codes, logsumexp)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        needs = _Needs(*ctx.needs_input_grad[:3])
        grads = _GradientsOnce.apply(ctx.config, needs, *ctx.saved_tensors, cotangent)
        return *grads, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(
            "linear_cross_entropy: forward-mode differentiation is not supported; "
            "use standard_linear_cross_entropy"
        )


class _GradientsOnce(torch.autograd.Function):
    """The gradients, which cannot be differentiated again.

    Autograd's `once_differentiable` looks at the cotangent alone: for a mean or a sum
    that is a constant, and the second derivative would be zero without a word.
    """

    @staticmethod
    def forward(
        config: TwoPass, needs: _Needs, *tensors: Any
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        return _backward(config, needs, *tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "linear_cross_entropy: second derivatives are not supported; "
            "use standard_linear_cross_entropy"
        )


def _forward(
    config: TwoPass,
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    codes: Int64[Tensor, " N"],
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """The loss and the logsumexp of each token, by an online softmax over the chunks."""
    num_tokens, vocab_size = hidden.shape[0], weight.shape[0]
    dtype = accumulation_dtype(hidden.dtype)
    losses = hidden.new_empty(num_tokens, dtype=dtype)
    logsumexp = torch.empty_like(losses)
    buffer = _tile_buffer(config, hidden, dtype)

    for tokens in chunks(num_tokens, config.token_chunk):
        hidden_block, codes_block = hidden[tokens], codes[tokens]
        running_sum = losses.new_zeros(len(codes_block))
        running_max = torch.full_like(running_sum, -torch.inf)
        label_logit = torch.zeros_like(running_sum)
        for vocab in chunks(vocab_size, config.vocab_chunk):
            logits = _logits(buffer, hidden_block, weight[vocab], bias, vocab)  # [T, C]
            column, is_here = _label_column(codes_block, vocab)
            label_logit += logits.gather(1, column).squeeze(1).masked_fill_(~is_here, 0)

            new_max = torch.maximum(running_max, logits.amax(1))
            # A row of -inf alone (classes masked by the bias) must not give inf - inf.
            shift = new_max.masked_fill(new_max == -torch.inf, 0)
            running_sum *= (running_max - shift).exp_()
            running_sum += logits.sub_(shift[:, None]).exp_().sum(1)
            running_max = new_max
        torch.add(running_max, running_sum.log_(), out=logsumexp[tokens])
        torch.sub(logsumexp[tokens], label_logit, out=losses[tokens])
    losses.masked_fill_(codes == IGNORED, 0).masked_fill_(codes == OUT_OF_RANGE, torch.nan)
    return losses, logsumexp


def _backward(
    config: TwoPass,
    needs: _Needs,
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    codes: Int64[Tensor, " N"],
    logsumexp: Float[Tensor, " N"],
    cotangent: Float[Tensor, " N"],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of hidden, weight and bias; None for those not needed."""
    num_tokens, vocab_size = hidden.shape[0], weight.shape[0]
    dtype = logsumexp.dtype
    is_narrow = hidden.dtype != dtype
    buffer = _tile_buffer(config, hidden, dtype)
    narrow_buffer = _tile_buffer(config, hidden, hidden.dtype) if is_narrow else buffer

    coefficient = cotangent.masked_fill(codes == IGNORED, 0)
    scale = _power_of_two(coefficient) if is_narrow else coefficient.new_ones(())
    coefficient /= scale
    logsumexp = logsumexp.masked_fill(codes == OUT_OF_RANGE, torch.nan)

    # Sums are kept in `dtype`: in the gradient itself where it has that dtype, else in
    # a buffer that is rounded once, at the end.
    grad_hidden = grad_weight = grad_bias = None
    if needs.hidden:
        grad_hidden = torch.zeros_like(hidden, dtype=dtype)
    if needs.weight:
        # In the strides of weight, or `.grad` would be made from a copy. No token, no write.
        grad_weight = torch.empty_like(weight) if num_tokens else torch.zeros_like(weight)
        if is_narrow:
            chunk_buffer = hidden.new_empty(config.vocab_chunk, hidden.shape[1], dtype=dtype)
    if needs.bias:
        grad_bias = logsumexp.new_zeros(vocab_size)

    for vocab in chunks(vocab_size, config.vocab_chunk):
        weight_chunk = weight[vocab]
        if grad_weight is not None:
            grad_chunk = chunk_buffer[: len(weight_chunk)] if is_narrow else grad_weight[vocab]
        for tokens in chunks(num_tokens, config.token_chunk):
            hidden_block = hidden[tokens]
            grad_logits = _logits(buffer, hidden_block, weight_chunk, bias, vocab)  # [T, C]
            grad_logits.sub_(logsumexp[tokens, None]).exp_()
            column, is_here = _label_column(codes[tokens], vocab)
            label_probability = grad_logits.gather(1, column)
            grad_logits.scatter_(1, column, label_probability - is_here[:, None].to(dtype))
            grad_logits.mul_(coefficient[tokens, None])

            if grad_bias is not None:
                grad_bias[vocab] += grad_logits.sum(0)
            if is_narrow:
                narrow = _tile(narrow_buffer, *grad_logits.shape)
                grad_logits = narrow.copy_(grad_logits)
            if grad_hidden is not None:
                matmul_into(grad_hidden[tokens], grad_logits, weight_chunk, accumulate=True)
            if grad_weight is not None:
                is_later = tokens.start > 0
                matmul_into(grad_chunk, grad_logits.t(), hidden_block, accumulate=is_later)
        if grad_weight is not None and is_narrow and num_tokens:
            torch.mul(grad_chunk, scale, out=grad_weight[vocab])

    if is_narrow:
        grad_hidden = None if grad_hidden is None else grad_hidden.mul_(scale).to(hidden.dtype)
        grad_bias = None if grad_bias is None else grad_bias.mul_(scale).to(hidden.dtype)
    return grad_hidden, grad_weight, grad_bias


def _logits(
    buffer: Tensor,
    hidden_block: Float[Tensor, "T D"],
    weight_chunk: Float[Tensor, "C D"],
    bias: Float[Tensor, " V"] | None,
    vocab: slice,
) -> Float[Tensor, "T C"]:
    """A tile of logits, in the buffer."""
    logits = _tile(buffer, len(hidden_block), len(weight_chunk))
    matmul_into(logits, hidden_block, weight_chunk.t(), accumulate=False)
    return logits if bias is None else logits.add_(bias[vocab])


def _label_column(
    codes_block: Int64[Tensor, " T"], vocab: slice
) -> tuple[Int64[Tensor, "T 1"], Tensor]:
    """The column of each row's label in the chunk, and whether it is there at all.

    Every row gets some column: selecting rows would make a GPU's host wait.
    """
    is_here = (codes_block >= vocab.start) & (codes_block < vocab.stop)
    column = (codes_block - vocab.start).masked_fill_(~is_here, 0)
    return column[:, None], is_here


def _tile_buffer(config: TwoPass, hidden: Tensor, dtype: torch.dtype) -> Tensor:
    return hidden.new_empty(config.token_chunk * config.vocab_chunk, dtype=dtype)


def _tile(buffer: Tensor, rows: int, columns: int) -> Tensor:
    """A contiguous [rows, columns] at the start of the buffer, for ragged ends too."""
    return buffer[: rows * columns].view(rows, columns)


def _power_of_two(cotangent: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """The size of the cotangent as a power of two, 1 where it has none.

    Taken out before the logit gradient is rounded to 16 bits and put back in the
    float32 sums: a mean over many tokens scales by 1/N, and float16 has no room for
    a probability times that. A power of two, so that both steps are exact.
    """
    if len(cotangent) == 0:
        return cotangent.new_ones(())
    largest = cotangent.abs().amax()
    exponent = torch.frexp(torch.where(largest.isfinite(), largest, 1))[1]
    return torch.ldexp(torch.ones_like(largest), exponent)
