"""How PyTorch differentiates, batches and compiles the two-pass loss.

Two operators hold the loops, so that `torch.compile` takes each as one node: traced,
they would unroll into thousands. Two `autograd.Function`s say what their derivatives
are, and that there are no others.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd import forward_ad

from loss_spec import Objective
from torch_impl.matmul import accumulation_dtype
from torch_impl.statistics import Statistics
from torch_impl.two_pass import Needs, TwoPass, two_pass_backward, two_pass_forward


def two_pass(
    config: TwoPass,
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    class_weight: Float[Tensor, " V"] | None,
    codes: Int64[Tensor, " N"],
) -> tuple[Float[Tensor, " N"], Statistics]:
    """Loss of each token, and the statistics of its logits, which are constants."""
    function: type[_Traceable] = _TwoPassFunction
    if torch.compiler.is_compiling():
        _refuse_tangents(hidden, weight, bias)
        function = _Traceable
    losses, *statistics = function.apply(config, hidden, weight, bias, class_weight, codes)
    return losses, _statistics(statistics)


_NO_FORWARD_MODE = (
    "linear_cross_entropy: forward-mode differentiation is not supported; "
    "use standard_linear_cross_entropy"
)


def _refuse_tangents(*inputs: Tensor | None) -> None:
    """In compiled code a tangent would be dropped, and the derivative be zero."""
    for tensor in inputs:
        if tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None:
            raise RuntimeError(_NO_FORWARD_MODE)


class _Traceable(torch.autograd.Function):
    """Forward and backward; what `torch.compile` takes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        config: TwoPass,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        class_weight: Tensor | None,
        codes: Tensor,
    ) -> tuple[Tensor, ...]:
        # By name: Dynamo counts the arguments to know whether `ctx` is one of them.
        return tuple(_forward_operator(hidden, weight, bias, class_weight, codes, *_flat(config)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.config, *arrays = inputs
        _, *statistics = output
        ctx.mark_non_differentiable(*statistics)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*arrays, *statistics[:3])

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if cotangent is None:
            return None, None, None, None, None, None
        needs = Needs(*ctx.needs_input_grad[1:4])
        gradients = _backward if torch.compiler.is_compiling() else _GradientsOnce.apply
        found = iter(gradients(ctx.config, needs, *ctx.saved_tensors, cotangent))
        return None, *(next(found) if need else None for need in needs), None, None


class _TwoPassFunction(_Traceable):
    """And a word about forward mode, which Dynamo would not trace."""

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(_NO_FORWARD_MODE)


class _GradientsOnce(torch.autograd.Function):
    """The gradients that are needed, which cannot be differentiated again.

    Autograd's `once_differentiable` looks at the cotangent alone: for a mean or a sum
    that is a constant, and the second derivative would be zero without a word.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(config: TwoPass, needs: Needs, *arrays: Tensor | None) -> tuple[Tensor, ...]:
        return _backward(config, needs, *arrays)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "linear_cross_entropy: second derivatives are not supported; "
            "use standard_linear_cross_entropy"
        )


def _backward(config: TwoPass, needs: Needs, *arrays: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(_backward_operator(*arrays, *needs, *_flat(config)))


_ARRAYS = "Tensor hidden, Tensor weight, Tensor? bias, Tensor? class_weight, Tensor codes"
_CONFIG = (
    "float label_smoothing, float logit_scale, float? logit_softcap, float z_loss, "
    "SymInt vocab_chunk, SymInt token_chunk, bool prediction, ScalarType dtype"
)


@torch.library.custom_op(
    "memory_efficient_logits::two_pass_forward",
    mutates_args=(),
    schema=f"({_ARRAYS}, {_CONFIG}) -> Tensor[]",
)
def _forward_operator(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    codes: Tensor,
    *config: Any,
) -> list[Tensor]:
    """The losses, then the statistics that are there."""
    # Its operands are chosen already; autocast must not choose again.
    with torch.autocast(hidden.device.type, enabled=False):
        losses, statistics = two_pass_forward(
            _config(config), hidden, weight, bias, class_weight, codes
        )
    return [losses, *(rows for rows in statistics[:3]), *_last(statistics.prediction)]


@_forward_operator.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    codes: Tensor,
    *config: Any,
) -> list[Tensor]:
    dtype = accumulation_dtype(_config(config).dtype)
    rows = [hidden.new_empty(hidden.shape[0], dtype=dtype) for _ in range(4)]
    if _config(config).prediction:
        rows.append(hidden.new_empty(hidden.shape[0], dtype=torch.int32))
    return rows


@torch.library.custom_op(
    "memory_efficient_logits::two_pass_backward",
    mutates_args=(),
    schema=(
        f"({_ARRAYS}, Tensor maximum, Tensor exp_sum, Tensor label_logit, Tensor cotangent, "
        f"bool needs_hidden, bool needs_weight, bool needs_bias, {_CONFIG}) -> Tensor[]"
    ),
)
def _backward_operator(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    codes: Tensor,
    maximum: Tensor,
    exp_sum: Tensor,
    label_logit: Tensor,
    cotangent: Tensor,
    needs_hidden: bool,
    needs_weight: bool,
    needs_bias: bool,
    *config: Any,
) -> list[Tensor]:
    """The gradients that are needed, in the order of the inputs."""
    with torch.autocast(hidden.device.type, enabled=False):
        grads = two_pass_backward(
            _config(config),
            Needs(needs_hidden, needs_weight, needs_bias),
            *(hidden, weight, bias, class_weight, codes),
            Statistics(maximum, exp_sum, label_logit),
            cotangent,
        )
    return [grad for grad in grads if grad is not None]


@_backward_operator.register_fake
def _(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *others: Any,
) -> list[Tensor]:
    needs = others[6:9]
    inputs = zip((hidden, weight, bias), needs, strict=True)
    return [torch.empty_like(array) for array, need in inputs if need and array is not None]


def _flat(config: TwoPass) -> tuple[Any, ...]:
    objective, *others = config
    return *objective, *others


def _config(flat: tuple[Any, ...]) -> TwoPass:
    fields = len(Objective._fields)
    return TwoPass(Objective(*flat[:fields]), *flat[fields:])


def _last(prediction: Tensor | None) -> list[Tensor]:
    return [] if prediction is None else [prediction]


def _statistics(rows: list[Tensor]) -> Statistics:
    maximum, exp_sum, label_logit, *prediction = rows
    return Statistics(maximum, exp_sum, label_logit, None, *prediction)


def _one_by_one(operator: Any) -> None:
    """Under vmap one call for each element of the batch: as lean as the loss of one."""

    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        calls = [
            operator(
                *(
                    argument if dim is None else argument.select(dim, index)
                    for argument, dim in zip(arguments, in_dims, strict=True)
                )
            )
            for index in range(info.batch_size)
        ]
        outputs = [torch.stack(column) for column in zip(*calls, strict=True)]
        return outputs, [0] * len(outputs)

    operator.register_vmap(vmap)


_one_by_one(_forward_operator)
_one_by_one(_backward_operator)
