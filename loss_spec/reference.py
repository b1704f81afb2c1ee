"""The loss and its gradients in NumPy: the answer that everything is held against.

Written for being right, not for speed: the formula of the contract, one block of
tokens at a time so that a large vocabulary fits. In float64 it is the reference.
In a narrower dtype it rounds where a full-logits implementation in that dtype
rounds, which says how large an error is fair (`fair_error`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import ml_dtypes  # NumPy's own finfo does not know bfloat16
import numpy as np
from jaxtyping import Float, Int

from loss_spec.loss_aux import LossAux

Array = np.ndarray[Any, np.dtype[Any]]

_BLOCK_BYTES = 2**28
_ERROR_BLOCK_NUMBERS = 2**17

_FLOOR_ULPS = 4

# What a loss in float64 may be off: there the answer itself has a few roundings.
FLOAT64_ERROR = 1e-12


class LossAndGradients(NamedTuple):
    """`loss` is a scalar, or [N] for reduction="none"; gradients are shaped as their inputs."""

    loss: Array
    grad_hidden: Array
    grad_weight: Array
    grad_bias: Array | None
    token_losses: Array
    """[N] before they are reduced, weights included"""
    aux: LossAux[Array]


def reference_linear_cross_entropy(
    hidden: Float[Array, "N D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    labels: Int[Array, " N"],
    *,
    bias: Float[Array, " V"] | None = None,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
    class_weight: Float[Array, " V"] | None = None,
    token_weight: Float[Array, " N"] | None = None,
    cotangent: Float[Array, "..."] | float = 1.0,
    compute_dtype: Any = np.float64,
    round_to: Any = None,
) -> LossAndGradients:
    """Full-logits loss and gradients, one block of tokens after the other.

        z_iv   = logit_scale * (hidden_i . weight_v + bias_v)
        z_iv   = logit_softcap * tanh(z_iv / logit_softcap)                (when set)
        loss_i = (1 - label_smoothing) * cw_(y_i) * (lse_i - z_i,y_i)
                 + (label_smoothing / V) * sum_v cw_v * (lse_i - z_iv)
                 + z_loss * lse_i ** 2                      with lse_i = logsumexp_v z_iv
        none   = tw_i * loss_i                              (0 where y_i is ignore_index)
        sum    = sum_i tw_i * loss_i
        mean   = sum / sum_i tw_i * cw_(y_i)

    `cw` is class_weight and `tw` token_weight, 1 when absent. Gradients are those of
    `sum(cotangent * loss)`. `compute_dtype` holds the softmax and all sums. `round_to`,
    if given, is the dtype to which bare logits, their gradients and the final gradients
    are rounded, as a framework would in that dtype.
    """
    x, w = (np.asarray(array).astype(compute_dtype) for array in (hidden, weight))
    if vocab_axis == 1:
        w = np.ascontiguousarray(w.T)
    b = None if bias is None else np.asarray(bias).astype(compute_dtype)
    num_tokens, vocab_size = x.shape[0], w.shape[0]

    def rounded(array: Array) -> Array:
        return array if round_to is None else array.astype(round_to).astype(compute_dtype)

    def given_or_ones(array: Array | None, length: int) -> Array:
        return (np.ones(length) if array is None else np.asarray(array)).astype(compute_dtype)

    counted = labels != ignore_index
    class_weights = given_or_ones(class_weight, vocab_size)
    smoothing = label_smoothing / vocab_size * class_weights
    token_weights = np.where(counted, given_or_ones(token_weight, num_tokens), 0)
    denominator: Any = 1
    if reduction == "mean" and np.any(token_weights != 0):
        denominator = np.sum(token_weights[counted] * class_weights[labels[counted]])
    # What a token's own loss is multiplied by on its way to sum(cotangent * loss).
    row_scale = (token_weights * cotangent / denominator).astype(compute_dtype)

    losses = np.zeros(num_tokens, compute_dtype)
    logsumexp, log_prob = np.zeros_like(losses), np.zeros_like(losses)
    prediction = np.full(num_tokens, -1, np.int32)
    grad_hidden = np.zeros_like(x)
    grad_weight = np.zeros_like(w)
    grad_bias = np.zeros(vocab_size, compute_dtype)
    block = max(1, _BLOCK_BYTES // (vocab_size * np.dtype(compute_dtype).itemsize))
    for start in range(0, num_tokens, block):
        rows = np.flatnonzero(counted[start : start + block]) + start
        label, every = labels[rows], np.arange(len(rows))

        bare = rounded(x[rows] @ w.T if b is None else x[rows] @ w.T + b)
        logits, slope = _scale_and_cap(bare, logit_scale, logit_softcap)
        prediction[rows] = logits.argmax(axis=1)
        log_probability, logsumexp[rows] = _log_softmax(logits)
        log_prob[rows] = log_probability[every, label]

        label_weight = (1 - label_smoothing) * class_weights[label]
        losses[rows] = z_loss * logsumexp[rows] ** 2 - label_weight * log_prob[rows]
        mass = label_weight + 2 * z_loss * logsumexp[rows]
        if label_smoothing:  # or a class with no probability would make 0 * inf of it
            losses[rows] -= log_probability @ smoothing
            mass += smoothing.sum()

        grad_logits = np.exp(log_probability) * mass[:, None]
        grad_logits[every, label] -= label_weight
        grad_logits -= smoothing
        grad_logits *= slope * row_scale[rows, None]
        grad_bias += grad_logits.sum(axis=0)
        grad_logits = rounded(grad_logits)
        grad_hidden[rows] = grad_logits @ w
        grad_weight += grad_logits.T @ x[rows]

    losses *= token_weights
    loss = losses if reduction == "none" else losses.sum() / denominator
    return LossAndGradients(
        loss=np.asarray(loss, compute_dtype),
        grad_hidden=rounded(grad_hidden),
        grad_weight=rounded(grad_weight.T if vocab_axis == 1 else grad_weight),
        grad_bias=None if b is None else rounded(grad_bias),
        token_losses=losses,
        aux=LossAux(logsumexp, log_prob, prediction, np.asarray(counted.sum(), np.int32)),
    )


def _scale_and_cap(bare: Array, scale: float, softcap: float | None) -> tuple[Array, Array]:
    """The logits, and their derivative with respect to the bare ones."""
    logits = bare * float(scale)
    if softcap is None:
        return logits, np.full((1, 1), scale, bare.dtype)
    tanh = np.tanh(logits / float(softcap))
    return float(softcap) * tanh, float(scale) * (1 - tanh) * (1 + tanh)


def _log_softmax(logits: Array) -> tuple[Array, Array]:
    """log softmax and logsumexp of each row."""
    maximum = logits.max(axis=1, keepdims=True)
    shifted = logits - maximum
    log_total = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted - log_total, (maximum + log_total)[:, 0]


def relative_error(value: Array, reference: Array, *, block_rows: int | None = None) -> float:
    """||value - reference||_2 / ||reference||_2 in float64; NaN where either has one.

    Walks rows in blocks: a gradient and its float64 copy need not fit twice, and what stays
    in the cache is done in a quarter of the time. Where the reference is zero everywhere the
    error is absolute.
    """
    value, reference = np.atleast_1d(value), np.atleast_1d(reference)
    if value.shape != reference.shape:
        raise ValueError(f"value: expected shape {reference.shape}, got {value.shape}")
    if block_rows is None:
        row_size = max(1, math.prod(reference.shape[1:]))
        block_rows = max(1, _ERROR_BLOCK_NUMBERS // row_size)
    difference = norm = 0.0
    for start in range(0, len(reference), block_rows):
        a = value[start : start + block_rows].astype(np.float64)
        b = reference[start : start + block_rows].astype(np.float64, copy=False)
        difference += float(np.sum((a - b) ** 2))
        norm += float(np.sum(b**2))
    return float(np.sqrt(difference / norm) if norm > 0 else np.sqrt(difference))


def fair_error(standard_error: float, dtype: Any) -> float:
    """The largest fair error: twice that of the standard implementation, plus a floor.

    The rule on which CCE, quack and mgmalek/efficient_cross_entropy converge. The floor
    is for cases in which the standard happens to be exact: one unit in the last place of
    the figure's own dtype, and `_FLOOR_ULPS` units of the float32 (for float64 figures
    float64) in which sums are kept.
    """
    unit = float(ml_dtypes.finfo(dtype).eps)
    sum_unit = min(unit, float(np.finfo(np.float32).eps))
    return 2 * standard_error + unit + _FLOOR_ULPS * sum_unit
