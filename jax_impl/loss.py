"""The public functions: check the call, flatten the tokens, run a strategy, reduce."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32, Integer

from jax_impl.autodiff import two_pass
from jax_impl.labels import check_labels, encode_labels
from jax_impl.loss_aux import make_aux
from jax_impl.matmul import accumulation_dtype
from jax_impl.reduction import reduce_losses
from jax_impl.standard import standard
from jax_impl.two_pass import TwoPass
from loss_spec import ArraySpec, LossOptions, Problem, check_arrays, make_plan


def linear_cross_entropy(
    hidden: Float[Array, "... D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    labels: Integer[Array, "..."],
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
    token_weight: Float[Array, "..."] | None = None,
    strategy: str = "auto",
    vocab_chunk: int | None = None,
    token_chunk: int | None = None,
    memory_budget: int | None = None,
    return_aux: bool = False,
    precision: jax.lax.PrecisionLike = None,
) -> Any:
    """Softmax cross-entropy of a linear projection, without the [N, V] logits.

        z_iv   = logit_scale * (hidden_i . weight_v + bias_v)
        z_iv   = logit_softcap * tanh(z_iv / logit_softcap)            if given
        lse_i  = logsumexp_v z_iv
        loss_i = (1 - label_smoothing) * class_weight_(y_i) * (lse_i - z_i,y_i)
                 + label_smoothing / V * sum_v class_weight_v * (lse_i - z_iv)
                 + z_loss * lse_i ** 2
        none   = token_weight_i * loss_i            0 where y_i is ignore_index
        sum    = sum_i token_weight_i * loss_i      over tokens not ignored
        mean   = sum / sum_i token_weight_i * class_weight_(y_i)

    A mean over no token, or over tokens of weight 0 alone, is 0. Differentiable in
    hidden, weight and bias, in reverse mode and once; class_weight and token_weight are
    constants. What needs no gradient costs none. Softmax, loss and every sum over chunks
    are float32 (float64 for float64 inputs); gradients have the dtype of their input.

    **Arguments**

    - `hidden`: `[..., D]`, float16, bfloat16, float32 or float64.
    - `weight`: `[V, D]` with `vocab_axis=0` (an embedding table), `[D, V]` with
        `vocab_axis=1` (the kernel of a Flax `Dense`); dtype of `hidden`.
    - `labels`: `[...]`, any integer dtype; classes in [0, V) or `ignore_index`.
    - `bias`: `[V]`, dtype of `hidden`.
    - `reduction`: "mean", "sum" or "none".
    - `label_smoothing`: in [0, 1), as in `torch.nn.functional.cross_entropy`.
    - `logit_scale`, `logit_softcap`: applied in this order (Gemma 2 caps at 30).
    - `z_loss`: coefficient on the squared logsumexp, which keeps it near 0 (PaLM).
    - `class_weight`: `[V]`, any of the four dtypes.
    - `token_weight`: `[...]`, the shape of `labels`, any of the four dtypes.
    - `strategy`: "auto" or "two_pass", which are the same for now.
    - `vocab_chunk`, `token_chunk`: size of a tile of logits; chosen if None. They
        bound the memory and never change the result beyond rounding.
    - `memory_budget`: None; a place kept for one in bytes.
    - `return_aux`: also return a `LossAux`: logsumexp, log-probability of the label and
        prediction of each token, and the number of tokens that count.
    - `precision`: of the matmuls, as in `jax.lax.dot_general`.

    **Returns** the loss, float32 (float64 for float64 inputs): a scalar, or `[...]`
    for `reduction="none"`; with `return_aux=True` the pair of it and a `LossAux`.

    **Raises** `TypeError` or `ValueError` naming the argument, before any work is
    done. A label outside [0, V) that is not `ignore_index` is a `ValueError` where
    its value can be read (outside `jit`, on a CPU); elsewhere its loss is NaN. Without
    x64, though, JAX makes 32-bit labels of 64-bit ones that are arguments of `jit`.
    Forward mode and second derivatives raise `TypeError`.
    """
    options = LossOptions(
        vocab_axis=vocab_axis,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        logit_scale=logit_scale,
        logit_softcap=logit_softcap,
        z_loss=z_loss,
        strategy=strategy,
        vocab_chunk=vocab_chunk,
        token_chunk=token_chunk,
        memory_budget=memory_budget,
        return_aux=return_aux,
    )
    arrays, problem = _check(hidden, weight, labels, bias, class_weight, token_weight, options)
    plan = make_plan(problem, options, on_cpu=jax.default_backend() == "cpu")
    config = TwoPass(
        options.objective,
        options.vocab_axis,
        plan.vocab_chunk,
        plan.token_chunk,
        options.return_aux,
        precision,
    )
    losses, statistics = two_pass(
        config, arrays.hidden, arrays.weight, arrays.bias, arrays.class_weight, arrays.codes
    )
    loss = _reduce(losses, arrays, problem, options)
    if statistics.prediction is None:
        return loss
    rows = statistics.logsumexp, statistics.label_log_prob, statistics.prediction
    return loss, make_aux(*rows, arrays.codes, problem.token_shape)


def standard_linear_cross_entropy(
    hidden: Float[Array, "... D"],
    weight: Float[Array, "V D"] | Float[Array, "D V"],
    labels: Integer[Array, "..."],
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
    token_weight: Float[Array, "..."] | None = None,
    return_aux: bool = False,
    precision: jax.lax.PrecisionLike = None,
) -> Any:
    """The same loss from the full [N, V] logits: the baseline.

    Arguments, result and errors are those of `linear_cross_entropy`, less the
    chunking. The gradients come from JAX's own differentiation.
    """
    options = LossOptions(
        vocab_axis=vocab_axis,
        ignore_index=ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        logit_scale=logit_scale,
        logit_softcap=logit_softcap,
        z_loss=z_loss,
        return_aux=return_aux,
    )
    arrays, problem = _check(hidden, weight, labels, bias, class_weight, token_weight, options)
    losses, logsumexp, log_prob, logits = standard(
        options.objective,
        *(arrays.hidden, arrays.weight, arrays.bias, arrays.class_weight, arrays.codes),
        vocab_axis=options.vocab_axis,
        precision=precision,
    )
    loss = _reduce(losses, arrays, problem, options)
    if not options.return_aux:
        return loss
    prediction = jnp.argmax(logits, axis=1).astype(jnp.int32)
    return loss, make_aux(logsumexp, log_prob, prediction, arrays.codes, problem.token_shape)


def memory_efficient_cross_entropy(
    hidden: Float[Array, "... D"],
    weight_matrix: Float[Array, "D V"],
    labels: Integer[Array, "..."],
    **options: Any,
) -> Any:
    """`linear_cross_entropy` with the weight as `[D, V]`, the kernel of a Flax `Dense`."""
    if "vocab_axis" in options:
        raise TypeError("vocab_axis: weight_matrix is [D, V]; call linear_cross_entropy for [V, D]")
    return linear_cross_entropy(hidden, weight_matrix, labels, vocab_axis=1, **options)


class _Arrays(NamedTuple):
    """The arguments as the implementations take them: tokens flat, labels as codes."""

    hidden: Float[Array, "N D"]
    weight: Float[Array, "V D"] | Float[Array, "D V"]
    codes: Int32[Array, " N"]
    bias: Float[Array, " V"] | None
    class_weight: Float[Array, " V"] | None
    token_weight: Float[Array, " N"] | None


def _check(
    hidden: Any,
    weight: Any,
    labels: Any,
    bias: Any,
    class_weight: Any,
    token_weight: Any,
    options: LossOptions,
) -> tuple[_Arrays, Problem]:
    """The checked arguments, and the sizes that they agree on."""
    given_labels = labels
    hidden, weight, labels = jnp.asarray(hidden), jnp.asarray(weight), jnp.asarray(labels)
    bias, class_weight, token_weight = (
        None if array is None else jnp.asarray(array)
        for array in (bias, class_weight, token_weight)
    )
    problem = check_arrays(
        hidden=_spec(hidden),
        weight=_spec(weight),
        labels=_spec(labels),
        bias=_spec(bias),
        class_weight=_spec(class_weight),
        token_weight=_spec(token_weight),
        vocab_axis=options.vocab_axis,
    )
    check_labels(given_labels, problem.vocab_size, options.ignore_index)
    dtype = accumulation_dtype(hidden.dtype)

    def constant(array: Any) -> Any:
        return None if array is None else lax.stop_gradient(array.reshape(-1).astype(dtype))

    arrays = _Arrays(
        hidden=hidden.reshape(problem.num_tokens, problem.hidden_dim),
        weight=weight,
        codes=encode_labels(labels.reshape(-1), problem.vocab_size, options.ignore_index),
        bias=bias,
        class_weight=constant(class_weight),
        token_weight=constant(token_weight),
    )
    return arrays, problem


def _spec(array: Any) -> Any:
    return None if array is None else ArraySpec(array.shape, array.dtype.name)


def _reduce(
    losses: Float[Array, " N"], arrays: _Arrays, problem: Problem, options: LossOptions
) -> Float[Array, "..."]:
    weights = arrays.class_weight, arrays.token_weight
    return reduce_losses(losses, arrays.codes, *weights, problem.token_shape, options.reduction)
