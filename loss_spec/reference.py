"""The loss and its gradients in NumPy: the answer that everything is held against.

Written for being right, not for speed: the formula of the contract, one block of
tokens at a time so that a large vocabulary fits. In float64 it is the reference.
In a narrower dtype it rounds where a full-logits implementation in that dtype
rounds, which says how large an error is fair (`error_limits`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray[Any, np.dtype[Any]]

_BLOCK_BYTES = 2**28

# Beyond twice the standard's own error: a few units in the last place, for the
# cases in which the standard happens to be exact.
_FLOOR_ULPS = 4


class LossAndGradients(NamedTuple):
    """`loss` is a scalar, or [N] for reduction="none"; gradients are shaped as their inputs."""

    loss: Array
    grad_hidden: Array
    grad_weight: Array
    grad_bias: Array | None


def reference_linear_cross_entropy(
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    labels: Int[Array, " N"],
    *,
    bias: Float[Array, " V"] | None = None,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
    cotangent: Float[Array, "..."] | float = 1.0,
    compute_dtype: Any = np.float64,
    round_to: Any = None,
) -> LossAndGradients:
    """Full-logits loss and gradients, one block of tokens after the other.

        z_iv   = hidden_i . weight_v + bias_v
        loss_i = logsumexp_v z_iv - z_i,y_i          (0 where y_i is ignore_index)

    Gradients are those of `sum(cotangent * loss)`. `compute_dtype` holds the
    softmax and all sums. `round_to`, if given, is the dtype to which logits, logit
    gradients and final gradients are rounded, as a framework would in that dtype.
    """
    x, w = (np.asarray(array).astype(compute_dtype) for array in (hidden, weight))
    if vocab_axis == 1:
        w = np.ascontiguousarray(w.T)
    b = None if bias is None else np.asarray(bias).astype(compute_dtype)
    num_tokens, vocab_size = x.shape[0], w.shape[0]

    def rounded(array: Array) -> Array:
        return array if round_to is None else array.astype(round_to).astype(compute_dtype)

    counted = labels != ignore_index
    if reduction == "mean":
        scale = np.where(counted, cotangent / max(counted.sum(), 1), 0)
    else:
        scale = np.where(counted, cotangent, 0)
    scale = scale.astype(compute_dtype)

    losses = np.zeros(num_tokens, compute_dtype)
    grad_hidden = np.zeros_like(x)
    grad_weight = np.zeros_like(w)
    grad_bias = np.zeros(vocab_size, compute_dtype)
    block = max(1, _BLOCK_BYTES // (vocab_size * np.dtype(compute_dtype).itemsize))
    for start in range(0, num_tokens, block):
        rows = np.flatnonzero(counted[start : start + block]) + start
        label = labels[rows]
        every = np.arange(len(rows))

        logits = x[rows] @ w.T
        if b is not None:
            logits += b
        logits = rounded(logits)
        logits -= logits.max(axis=1, keepdims=True)
        label_logit = logits[every, label]
        probability = np.exp(logits, out=logits)
        total = probability.sum(axis=1)
        losses[rows] = np.log(total) - label_logit

        probability /= total[:, None]
        probability[every, label] -= 1
        probability *= scale[rows, None]
        grad_bias += probability.sum(axis=0)
        grad_logits = rounded(probability)
        grad_hidden[rows] = grad_logits @ w
        grad_weight += grad_logits.T @ x[rows]

    if reduction == "none":
        loss = losses
    else:
        loss = losses.sum() / (max(counted.sum(), 1) if reduction == "mean" else 1)
    return LossAndGradients(
        loss=np.asarray(loss, compute_dtype),
        grad_hidden=rounded(grad_hidden),
        grad_weight=rounded(grad_weight.T if vocab_axis == 1 else grad_weight),
        grad_bias=None if b is None else rounded(grad_bias),
    )


def relative_error(value: Array, reference: Array, *, block_rows: int = 4096) -> float:
    """||value - reference||_2 / ||reference||_2 in float64; NaN where either has one.

    Walks rows in blocks: a gradient and its float64 copy need not fit twice. Where
    the reference is zero everywhere the error is absolute.
    """
    value, reference = np.atleast_1d(value), np.atleast_1d(reference)
    if value.shape != reference.shape:
        raise ValueError(f"value: expected shape {reference.shape}, got {value.shape}")
    difference = norm = 0.0
    for start in range(0, len(reference), block_rows):
        a = value[start : start + block_rows].astype(np.float64)
        b = reference[start : start + block_rows].astype(np.float64)
        difference += float(np.sum((a - b) ** 2))
        norm += float(np.sum(b**2))
    return float(np.sqrt(difference / norm) if norm > 0 else np.sqrt(difference))


def error_limits(standard_errors: dict[str, float], dtype: Any) -> dict[str, float]:
    """The largest fair error for each name: twice the standard's own, plus a floor.

    The rule on which CCE, quack and mgmalek/efficient_cross_entropy converge. The
    floor is `_FLOOR_ULPS` units in the last place of the dtype that the figure is
    returned in: the loss is at least float32, a gradient has the dtype of its input.
    """
    unit = _epsilon(dtype)
    loss_unit = min(unit, _epsilon(np.float32))
    return {
        name: 2 * error + _FLOOR_ULPS * (loss_unit if name == "loss_error" else unit)
        for name, error in standard_errors.items()
    }


def _epsilon(dtype: Any) -> float:
    import ml_dtypes  # NumPy's own finfo does not know bfloat16

    return float(ml_dtypes.finfo(dtype).eps)
