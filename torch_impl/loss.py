"""The public functions: check the call, flatten the tokens, run a strategy, reduce."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Integer
from torch import Tensor

from loss_spec import (
    ArraySpec,
    LossOptions,
    Problem,
    check_arrays,
    make_plan,
    refuse_unimplemented,
)
from torch_impl.labels import check_labels, encode_labels
from torch_impl.reduction import reduce_losses
from torch_impl.standard import standard
from torch_impl.two_pass import TwoPass, two_pass


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
) -> Float[Tensor, "..."]:
    """Softmax cross-entropy of a linear projection, without the [N, V] logits.

        z_iv   = hidden_i . weight_v + bias_v
        loss_i = logsumexp_v z_iv - z_i,y_i              0 where y_i is ignore_index
        mean   = sum_i loss_i / number of tokens not ignored   (0 if there are none)
        sum    = sum_i loss_i
        none   = loss_i, in the shape of labels

    Differentiable in hidden, weight and bias, in reverse mode and once. What needs
    no gradient costs none. Softmax, loss and every sum over chunks are float32
    (float64 for float64 inputs); gradients have the dtype of their input.

    **Arguments**

    - `hidden`: `[..., D]`, float16, bfloat16, float32 or float64.
    - `weight`: `[V, D]` with `vocab_axis=0` (`nn.Linear.weight`, an embedding), `[D, V]` with
        `vocab_axis=1` (the kernel of a Flax `Dense`); dtype of `hidden`.
    - `labels`: `[...]`, any integer dtype; classes in [0, V) or `ignore_index`.
    - `bias`: `[V]`, dtype of `hidden`.
    - `reduction`: "mean", "sum" or "none".
    - `vocab_chunk`, `token_chunk`: size of a tile of logits; chosen if None. They
        bound the memory and never change the result beyond rounding.

    `label_smoothing`, `logit_scale`, `logit_softcap`, `z_loss`, `class_weight`,
    `token_weight`, `strategy="one_pass"`, `memory_budget` and `return_aux` have
    their final place and raise `NotImplementedError` for now.

    **Returns** the loss, float32 (float64 for float64 inputs): a scalar, or `[...]`
    for `reduction="none"`.

    **Raises** `TypeError` or `ValueError` naming the argument, before any work is
    done. A label outside [0, V) that is not `ignore_index` is a `ValueError` where
    its value can be read (on a CPU); elsewhere its loss is NaN. Forward mode and
    second derivatives raise `RuntimeError`.
    """
    refuse_unimplemented(class_weight=class_weight, token_weight=token_weight)
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
    problem = _check(hidden, weight, labels, bias, options)
    plan = make_plan(problem, options, on_cpu=hidden.device.type == "cpu")
    codes = encode_labels(labels.reshape(-1), problem.vocab_size, options.ignore_index)
    losses = two_pass(
        TwoPass(plan.vocab_chunk, plan.token_chunk),
        hidden.reshape(problem.num_tokens, problem.hidden_dim),
        weight if options.vocab_axis == 0 else weight.t(),
        bias,
        codes,
    )
    return reduce_losses(losses, codes, problem.token_shape, options.reduction)


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
) -> Float[Tensor, "..."]:
    """The same loss from the full [N, V] logits: the baseline.

    Arguments, result and errors are those of `linear_cross_entropy`, less the
    chunking. The gradients come from autograd.
    """
    refuse_unimplemented(class_weight=class_weight, token_weight=token_weight)
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
    problem = _check(hidden, weight, labels, bias, options)
    codes = encode_labels(labels.reshape(-1), problem.vocab_size, options.ignore_index)
    losses = standard(
        hidden.reshape(problem.num_tokens, problem.hidden_dim),
        weight if options.vocab_axis == 0 else weight.t(),
        bias,
        codes,
    )
    return reduce_losses(losses, codes, problem.token_shape, options.reduction)


def memory_efficient_cross_entropy(
    hidden: Float[Tensor, "... D"],
    weight_matrix: Float[Tensor, "D V"],
    labels: Integer[Tensor, "..."],
    **options: Any,
) -> Float[Tensor, "..."]:
    """`linear_cross_entropy` with the weight as `[D, V]`, the kernel of a Flax `Dense`."""
    if "vocab_axis" in options:
        raise TypeError("vocab_axis: weight_matrix is [D, V]; call linear_cross_entropy for [V, D]")
    return linear_cross_entropy(hidden, weight_matrix, labels, vocab_axis=1, **options)


def _check(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None, options: LossOptions
) -> Problem:
    for name, value in (("hidden", hidden), ("weight", weight), ("labels", labels), ("bias", bias)):
        if not isinstance(value, Tensor) and not (name == "bias" and value is None):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    for name, value in (("weight", weight), ("labels", labels), ("bias", bias)):
        if value is not None and value.device != hidden.device:
            raise ValueError(f"{name}: expected device {hidden.device}, got {value.device}")
    problem = check_arrays(
        hidden=_spec(hidden),
        weight=_spec(weight),
        labels=_spec(labels),
        bias=None if bias is None else _spec(bias),
        vocab_axis=options.vocab_axis,
    )
    check_labels(labels, problem.vocab_size, options.ignore_index)
    return problem


def _spec(tensor: Tensor) -> ArraySpec:
    return ArraySpec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
