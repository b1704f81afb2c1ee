"""The public functions: check the call, flatten the tokens, run a strategy, reduce."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from loss_spec import EVERYTHING, LossOptions, Needs, Plan, Problem
from torch_impl.arguments import Arrays, check_arguments, problem_of
from torch_impl.autodiff import one_pass, two_pass
from torch_impl.config import Config
from torch_impl.loss_aux import make_aux
from torch_impl.planning import plan_for
from torch_impl.reduction import reduce_losses
from torch_impl.standard import standard


def linear_cross_entropy(
    hidden: Float[Tensor, "... D"],
    weight: Float[Tensor, "V D"] | Float[Tensor, "D V"],
    labels: Integer[Tensor, "..."],
    *,
    bias: Float[Tensor, " V"] | None = None,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
    class_weight: Float[Tensor, " V"] | None = None,
    token_weight: Float[Tensor, "..."] | None = None,
    strategy: str = "auto",
    vocab_chunk: int | None = None,
    token_chunk: int | None = None,
    memory_budget: int | None = None,
    return_aux: bool = False,
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
    - `weight`: `[V, D]` with `vocab_axis=0` (`nn.Linear.weight`, an embedding), `[D, V]` with
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
        four, with larger tiles; not for `reduction="none"`, nor under `torch.compile`
        and `torch.func`, which get two_pass. "auto" takes the faster one within the
        budget. See `plan`.
    - `vocab_chunk`, `token_chunk`: size of a tile of logits; chosen if None. They
        bound the memory and never change the result beyond rounding.
    - `memory_budget`: bytes of workspace, beyond inputs and gradients, that the call may
        use, for contiguous inputs. None: what the smallest tiles need, and for larger ones
        a 32nd of the float32 logits, or 20 MiB (on a GPU 64) if that is more; where
        one_pass is asked for, a tile of up to a quarter of the tokens.
    - `return_aux`: also return a `LossAux`: logsumexp, log-probability of the label and
        prediction of each token, and the number of tokens that count.

    Under autocast the operands of the matmuls are rounded to its dtype, one tile at a
    time and never the whole weight; inputs may then differ in dtype. What is float64
    stays so, as in `torch.nn.functional.linear`.

    **Returns** the loss, float32 (float64 for float64 inputs): a scalar, or `[...]`
    for `reduction="none"`; with `return_aux=True` the pair of it and a `LossAux`.

    **Raises** `TypeError` or `ValueError` naming the argument, before any work is
    done. A label outside [0, V) that is not `ignore_index` is a `ValueError` where
    its value can be read (on a CPU, outside `torch.compile`); elsewhere its loss is NaN.
    Forward mode and second derivatives raise `RuntimeError`.
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
    arrays, problem = check_arguments(
        hidden, weight, labels, bias, class_weight, token_weight, options
    )
    inputs = arrays.hidden, arrays.weight, arrays.bias, arrays.class_weight
    config = Config(
        options.objective,
        options.reduction,
        options.vocab_chunk or 0,
        options.token_chunk or 0,
        options.memory_budget or 0,
        options.return_aux,
        getattr(torch, problem.dtype),
    )
    strategy = "two_pass"
    if not torch.compiler.is_compiling():  # there an operator chooses, when it runs
        chosen = _plan(problem, options, hidden, weight, bias)
        strategy = chosen.strategy
        config = config._replace(vocab_chunk=chosen.vocab_chunk, token_chunk=chosen.token_chunk)
    if strategy == "one_pass":
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
    hidden: Float[Tensor, "... D"],
    weight: Float[Tensor, "V D"] | Float[Tensor, "D V"],
    labels: Integer[Tensor, "..."],
    *,
    bias: Float[Tensor, " V"] | None = None,
    vocab_axis: int = 0,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    logit_scale: float = 1.0,
    logit_softcap: float | None = None,
    z_loss: float = 0.0,
    class_weight: Float[Tensor, " V"] | None = None,
    token_weight: Float[Tensor, "..."] | None = None,
    return_aux: bool = False,
) -> Any:
    """The same loss from the full [N, V] logits: the baseline.

    Arguments, result and errors are those of `linear_cross_entropy`, less the
    chunking. The gradients come from autograd.
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
    arrays, problem = check_arguments(
        hidden, weight, labels, bias, class_weight, token_weight, options
    )
    losses, logits = standard(
        options.objective,
        *(arrays.hidden, arrays.weight, arrays.bias, arrays.class_weight, arrays.codes),
    )
    loss = _reduce(losses, arrays, problem, options)
    if not options.return_aux:
        return loss
    logsumexp = logits.logsumexp(1)
    label = arrays.codes.clamp_min(0)[:, None]
    rows = logsumexp, logits.gather(1, label)[:, 0] - logsumexp, logits.argmax(1)
    return loss, make_aux(*rows, arrays.codes, problem.token_shape)


def plan(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    class_weight: Tensor | None = None,
    token_weight: Tensor | None = None,
    **options: Any,
) -> Plan:
    """What `linear_cross_entropy` does for these arguments, without doing it.

        print(plan(hidden, head.weight, labels, memory_budget=64 * 2**20))

    The gradients of the inputs that require one are planned for. Raises what
    `linear_cross_entropy` raises for shapes, dtypes and options.
    """
    checked = LossOptions(**options)
    problem = problem_of(hidden, weight, labels, bias, class_weight, token_weight, checked)
    return _plan(problem, checked, hidden, weight, bias)


def memory_efficient_cross_entropy(
    hidden: Float[Tensor, "... D"],
    weight_matrix: Float[Tensor, "D V"],
    labels: Integer[Tensor, "..."],
    **options: Any,
) -> Any:
    """`linear_cross_entropy` with the weight as `[D, V]`, the kernel of a Flax `Dense`."""
    if "vocab_axis" in options:
        raise TypeError("vocab_axis: weight_matrix is [D, V]; call linear_cross_entropy for [V, D]")
    return linear_cross_entropy(hidden, weight_matrix, labels, vocab_axis=1, **options)


def _reduce(
    losses: Float[Tensor, " N"], arrays: Arrays, problem: Problem, options: LossOptions
) -> Float[Tensor, "..."]:
    weights = arrays.class_weight, arrays.token_weight
    loss = reduce_losses(losses, arrays.codes, *weights, options.reduction)
    return loss.reshape(problem.token_shape) if options.reduction == "none" else loss


def _plan(
    problem: Problem,
    options: LossOptions,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
) -> Plan:
    if torch._C._are_functorch_transforms_active():
        # What these keep between forward and backward they may copy: too much for a dW.
        options, needs = dataclasses.replace(options, strategy="two_pass"), EVERYTHING
    else:
        enabled = torch.is_grad_enabled()
        inputs = hidden, weight, bias
        needs = Needs(*(enabled and x is not None and x.requires_grad for x in inputs))
    return plan_for(problem, options, needs, hidden, weight)
