"""The public functions: check the call, flatten the tokens, run a strategy, reduce."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from jax_impl.arguments import Arrays, check_arguments, problem_of
from jax_impl.autodiff import one_pass, two_pass
from jax_impl.config import Config
from jax_impl.loss_aux import make_aux
from jax_impl.matmul import check_precision, operand_dtype
from jax_impl.reduction import reduce_losses
from jax_impl.standard import standard
from loss_spec import Backend, LossOptions, Needs, Plan, Problem, make_plan


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
    - `strategy`: "two_pass" computes the logits again for the gradients: the leanest.
        "one_pass" forms the gradients while the logits are there: three matmuls for
        four, with larger tiles; not for `reduction="none"`, which gets two_pass.
        "auto" takes the faster one within the budget. See `plan`.
    - `vocab_chunk`, `token_chunk`: size of a tile of logits; chosen if None. They
        bound the memory and never change the result beyond rounding.
    - `memory_budget`: bytes of workspace, beyond inputs and gradients, that the call may
        use, for contiguous inputs. None: what the smallest tiles need, and for larger ones
        a 32nd of the float32 logits, or 20 MiB (on a GPU 64) if that is more; where
        one_pass is asked for, a tile of up to a quarter of the tokens.
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
    precision = check_precision(precision)
    arrays, problem = check_arguments(
        hidden, weight, labels, bias, class_weight, token_weight, options
    )
    chosen = _plan(problem, options, bias)
    config = Config(
        options.objective,
        options.reduction,
        options.vocab_axis,
        chosen.vocab_chunk,
        chosen.token_chunk,
        options.return_aux,
        precision,
    )
    inputs = arrays.hidden, arrays.weight, arrays.bias, arrays.class_weight
    if chosen.strategy == "one_pass":
        loss, statistics = one_pass(config, *inputs, arrays.token_weight, arrays.codes)
    else:
        losses, statistics = two_pass(config, *inputs, arrays.codes)
        loss = _reduce(losses, arrays, problem, options)
    if statistics.prediction is None:
        return loss
    factor = options.objective.logit_factor
    rows = statistics.logsumexp(factor), statistics.label_log_prob(factor), statistics.prediction
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
    precision = check_precision(precision)
    arrays, problem = check_arguments(
        hidden, weight, labels, bias, class_weight, token_weight, options
    )
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


def plan(
    hidden: Any,
    weight: Any,
    labels: Any,
    *,
    bias: Any = None,
    class_weight: Any = None,
    token_weight: Any = None,
    **options: Any,
) -> Plan:
    """What `linear_cross_entropy` does for these arguments, without doing it.

        print(plan(hidden, kernel, labels, vocab_axis=1, memory_budget=64 * 2**20))

    Arrays may be `jax.ShapeDtypeStruct`s. The gradients of all three inputs are planned
    for. Raises what `linear_cross_entropy` raises for shapes, dtypes and options.
    """
    options.pop("precision", None)
    checked = LossOptions(**options)
    arrays = hidden, weight, labels, bias, class_weight, token_weight
    problem = problem_of(*arrays, checked)
    return _plan(problem, checked, bias)


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


def _plan(problem: Problem, options: LossOptions, bias: Any) -> Plan:
    """For the gradients of all inputs: which are needed is not known before the backward."""
    dtype = jnp.dtype(problem.dtype)
    device = "cpu" if jax.default_backend() == "cpu" else "gpu"
    backend = Backend("jax", device, widens=operand_dtype(dtype) != dtype)
    needs = Needs(hidden=True, weight=True, bias=bias is not None)
    return make_plan(problem, options, backend=backend, needs=needs)


def _reduce(
    losses: Float[Array, " N"], arrays: Arrays, problem: Problem, options: LossOptions
) -> Float[Array, "..."]:
    weights = arrays.class_weight, arrays.token_weight
    loss = reduce_losses(losses, arrays.codes, *weights, options.reduction)
    return loss.reshape(problem.token_shape) if options.reduction == "none" else loss
