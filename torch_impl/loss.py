"""The public functions: check the call, flatten the tokens, run a strategy, reduce."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from loss_spec import ArraySpec, LossOptions, Problem, check_arrays, make_plan
from torch_impl.autodiff import two_pass
from torch_impl.labels import encode_labels
from torch_impl.loss_aux import make_aux
from torch_impl.matmul import accumulation_dtype
from torch_impl.reduction import reduce_losses
from torch_impl.standard import standard
from torch_impl.two_pass import TwoPass


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
    - `strategy`: "auto" or "two_pass", which are the same for now.
    - `vocab_chunk`, `token_chunk`: size of a tile of logits; chosen if None. They
        bound the memory and never change the result beyond rounding.
    - `memory_budget`: None; a place kept for one in bytes.
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
    arrays, problem = _check(hidden, weight, labels, bias, class_weight, token_weight, options)
    plan = make_plan(problem, options, on_cpu=hidden.device.type == "cpu")
    config = TwoPass(
        options.objective,
        plan.vocab_chunk,
        plan.token_chunk,
        options.return_aux,
        getattr(torch, problem.dtype),
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
    arrays, problem = _check(hidden, weight, labels, bias, class_weight, token_weight, options)
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


class _Arrays(NamedTuple):
    """The arguments as the implementations take them: tokens flat, labels as codes."""

    hidden: Float[Tensor, "N D"]
    weight: Float[Tensor, "V D"]
    codes: Int64[Tensor, " N"]
    bias: Float[Tensor, " V"] | None
    class_weight: Float[Tensor, " V"] | None
    token_weight: Float[Tensor, " N"] | None


def _check(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    token_weight: Tensor | None,
    options: LossOptions,
) -> tuple[_Arrays, Problem]:
    """The checked arguments, and the sizes that they agree on."""
    required = {"hidden": hidden, "weight": weight, "labels": labels}
    optional = {"bias": bias, "class_weight": class_weight, "token_weight": token_weight}
    given = {name: value for name, value in optional.items() if value is not None}
    for name, value in (required | given).items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
        if value.device != hidden.device:
            raise ValueError(f"{name}: expected device {hidden.device}, got {value.device}")
    problem = check_arrays(
        hidden=_operand(hidden),
        weight=_operand(weight),
        labels=_spec(labels),
        bias=None if bias is None else _operand(bias),
        class_weight=None if class_weight is None else _spec(class_weight),
        token_weight=None if token_weight is None else _spec(token_weight),
        vocab_axis=options.vocab_axis,
    )
    dtype = accumulation_dtype(getattr(torch, problem.dtype))
    codes = encode_labels(labels, problem.vocab_size, options.ignore_index)

    def constant(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach().reshape(-1).to(dtype)

    arrays = _Arrays(
        hidden=hidden.reshape(problem.num_tokens, problem.hidden_dim),
        weight=weight if options.vocab_axis == 0 else weight.t(),
        codes=codes.reshape(-1),
        bias=bias,
        class_weight=constant(class_weight),
        token_weight=constant(token_weight),
    )
    return arrays, problem


def _spec(tensor: Tensor) -> ArraySpec:
    return ArraySpec(tuple(tensor.shape), _name(tensor.dtype))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _operand(tensor: Tensor) -> ArraySpec:
    """The spec of an operand of the matmul: autocast's dtype, where that is in charge."""
    spec, device = _spec(tensor), tensor.device.type
    is_eligible = tensor.is_floating_point() and tensor.dtype != torch.float64
    if is_eligible and torch.is_autocast_enabled(device):
        return spec._replace(dtype=_name(torch.get_autocast_dtype(device)))
    return spec


def _reduce(
    losses: Float[Tensor, " N"], arrays: _Arrays, problem: Problem, options: LossOptions
) -> Float[Tensor, "..."]:
    weights = arrays.class_weight, arrays.token_weight
    return reduce_losses(losses, arrays.codes, *weights, problem.token_shape, options.reduction)
