"""What losses that form the [N, V] logits hold at their worst moment, beyond their inputs.

Worked out from what each is known to do. Left out: a few numbers a token, and the room that
oneDNN takes inside a matmul of 16-bit operands, at most 1.5 MiB a thread; but with AVX-512
without bfloat16 a float32 copy of the product.
"""

from __future__ import annotations

from collections.abc import Callable

from harness.cases import Shape
from harness.prediction.packing import Value, packed_bytes
from loss_spec import DTYPE_BYTES


def bytes_beyond_inputs(framework: str, variant: str, shape: Shape) -> int | None:
    """None for a loss of which nothing is known."""
    held = _HELD.get((framework, variant))
    return None if held is None else held(shape)


def narrow_logits_bytes(shape: Shape) -> int:
    """[N, V] in the dtype of the inputs."""
    return shape.num_tokens * shape.vocab_size * DTYPE_BYTES[shape.dtype]


def weight_bytes(shape: Shape) -> int:
    return shape.vocab_size * shape.hidden_dim * DTYPE_BYTES[shape.dtype]


def _torch_standard(shape: Shape) -> int:
    """log_softmax, its gradient and that of the logits; at the end the gradients and one."""
    return max(3 * shape.logits_bytes, narrow_logits_bytes(shape) + shape.gradients_bytes)


def _torch_narrow(shape: Shape) -> int:
    """The same, all of it in the dtype of hidden."""
    one = narrow_logits_bytes(shape)
    return max(3 * one, one + shape.gradients_bytes)


def _torch_fused(shape: Shape) -> int:
    return narrow_logits_bytes(shape) + shape.gradients_bytes


def _xla_standard(shape: Shape) -> int:
    """The values of the program in the order in which XLA's CPU compiler runs it.

    Logits, their exponentials, the gradient of the logits, dW, dX; 16-bit operands are
    widened at the start, and their gradients narrowed at the end.
    """
    logits = shape.logits_bytes
    softmax = [Value(logits, 1, 3), Value(logits, 3, 5), Value(logits, 5, 7)]
    hidden = shape.num_tokens * shape.hidden_dim * DTYPE_BYTES[shape.dtype]
    weight = weight_bytes(shape)
    if DTYPE_BYTES[shape.dtype] >= 4:
        results = [Value(weight, 6, 9, is_result=True), Value(hidden, 7, 9, is_result=True)]
        return packed_bytes([*softmax, *results])
    operands = [Value(2 * hidden, 0, 6), Value(2 * weight, 2, 7)]
    wide = [Value(2 * weight, 6, 8), Value(2 * hidden, 7, 9)]
    results = [Value(weight, 8, 9, is_result=True), Value(hidden, 9, 9, is_result=True)]
    return packed_bytes([*softmax, *operands, *wide, *results])


def _xla_optax(shape: Shape) -> int:
    """Three of the logits and one widened operand: up to a third less than 16 bits need."""
    widened = shape.vocab_size * shape.hidden_dim * 4 if DTYPE_BYTES[shape.dtype] < 4 else 0
    return shape.gradients_bytes + 2 * shape.logits_bytes + narrow_logits_bytes(shape) + widened


_HELD: dict[tuple[str, str], Callable[[Shape], int]] = {
    ("torch", "standard"): _torch_standard,
    ("torch", "linear_cross_entropy"): _torch_narrow,
    ("torch", "compiled"): _torch_fused,
    ("torch", "cut_cross_entropy"): _torch_fused,
    ("jax", "standard"): _xla_standard,
    ("jax", "optax"): _xla_optax,
}
