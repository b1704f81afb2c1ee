"""How PyTorch differentiates, batches and compiles the two strategies.

`autograd.Function`s say what the derivatives are, and that there are no others. Under
`torch.compile` two operators hold the loops: traced, they would unroll into thousands of
nodes. Elsewhere the loops are called as they are, since the first call of an operator loads
the compiler, a second and 70 MiB.
"""

from __future__ import annotations

import functools
from typing import Any, NoReturn

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd import forward_ad

from loss_spec import Needs
from torch_impl.calls import (
    one_by_one,
    rows_of,
    run_backward,
    run_forward,
    statistics_of,
    without_autocast,
)
from torch_impl.config import Config
from torch_impl.gradients import rounded
from torch_impl.one_pass import one_pass_forward
from torch_impl.operators import backward_operator, flat, forward_operator
from torch_impl.reduction import token_shares
from torch_impl.statistics import Statistics


def two_pass(
    config: Config,
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    class_weight: Float[Tensor, " V"] | None,
    codes: Int64[Tensor, " N"],
) -> tuple[Float[Tensor, " N"], Statistics]:
    """Loss of each token, and the statistics of its logits, which are constants."""
    function: type[_TwoPassTraced] = _TwoPassFunction
    if torch.compiler.is_compiling():
        _refuse_tangents(hidden, weight, bias)
        function = _TwoPassTraced
    losses, *statistics = function.apply(config, hidden, weight, bias, class_weight, codes)
    return losses, statistics_of(statistics)


_NO_FORWARD_MODE = (
    "linear_cross_entropy: forward-mode differentiation is not supported; "
    "use standard_linear_cross_entropy"
)


def _refuse_tangents(*inputs: Tensor | None) -> None:
    """In compiled code a tangent would be dropped, and the derivative be zero."""
    for tensor in inputs:
        if tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None:
            raise RuntimeError(_NO_FORWARD_MODE)


class _TwoPassTraced(torch.autograd.Function):
    """What `torch.compile` takes: operators, and no rule for forward mode."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        config: Config,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        class_weight: Tensor | None,
        codes: Tensor,
    ) -> tuple[Tensor, ...]:
        # By name: Dynamo counts the arguments to know whether `ctx` is one of them.
        return tuple(forward_operator(hidden, weight, bias, class_weight, codes, *flat(config)))

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
        arrays = *ctx.saved_tensors, cotangent
        if torch.compiler.is_compiling():
            found = iter(backward_operator(*arrays, *needs, *flat(ctx.config)))
        else:
            found = iter(_GradientsOnce.apply(ctx.config, needs, *arrays))
        return None, *(next(found) if need else None for need in needs), None, None


class _TwoPassFunction(_TwoPassTraced):
    """The same without operators, and with a word about forward mode."""

    generate_vmap_rule = False

    @staticmethod
    def forward(config: Config, *arrays: Any) -> tuple[Tensor, ...]:
        return tuple(run_forward(config, *arrays))

    @staticmethod
    def vmap(info: Any, in_dims: Any, config: Config, *arrays: Any) -> tuple[Any, Any]:
        one = functools.partial(_TwoPassFunction.apply, config)
        return one_by_one(one, info.batch_size, in_dims[1:], arrays)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(_NO_FORWARD_MODE)


def one_pass(
    config: Config,
    hidden: Float[Tensor, "N D"],
    weight: Float[Tensor, "V D"],
    bias: Float[Tensor, " V"] | None,
    class_weight: Float[Tensor, " V"] | None,
    token_weight: Float[Tensor, " N"] | None,
    codes: Int64[Tensor, " N"],
) -> tuple[Float[Tensor, ""], Statistics]:
    """The sum or mean, and the statistics of each token, which are constants."""
    loss, *statistics = _OnePassFunction.apply(
        config, hidden, weight, bias, class_weight, token_weight, codes
    )
    return loss, statistics_of(statistics)


class _OnePassFunction(torch.autograd.Function):
    """The forward that has the gradients when it is done."""

    @staticmethod
    def forward(
        ctx: Any,
        config: Config,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        class_weight: Tensor | None,
        token_weight: Tensor | None,
        codes: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.config, ctx.needs = config, Needs(*ctx.needs_input_grad[1:4])
        arrays = hidden, weight, bias, class_weight, token_weight, codes
        with without_autocast(hidden):
            loss, statistics, sums, ctx.scale = one_pass_forward(config, ctx.needs, *arrays)
        rows = rows_of(statistics)
        ctx.mark_non_differentiable(*rows)
        ctx.set_materialize_grads(False)
        # Sums that are rounded are freed with the graph; those that become gradients are
        # handed out, and not to be saved.
        ctx.own_sums = [
            total
            if total is not None and array is not None and total.dtype == array.dtype
            else None
            for total, array in zip(sums, (hidden, weight, bias), strict=True)
        ]
        ctx.is_spent = False
        saved = [
            None if own is not None else total
            for total, own in zip(sums, ctx.own_sums, strict=True)
        ]
        ctx.save_for_backward(*arrays, *rows[:3], *saved)
        return loss, *rows

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        if cotangent is None:
            return (None,) * 7
        saved = ctx.saved_tensors  # once: under a checkpoint there is no second time
        saved, saved_sums = saved[:-3], saved[-3:]
        *arrays, token_weight, codes, maximum, exp_sum, label_score = saved
        if not ctx.is_spent and not torch._C._are_functorch_transforms_active():
            found = iter(_ScaledOnce.apply(ctx, saved_sums, cotangent, *arrays[:3]))
        else:
            # An earlier backward took the sums for its gradients, or there are many
            # cotangents at once: find them again.
            class_weight, dtype = arrays[3], cotangent.dtype
            weights = class_weight, token_weight
            shares = token_shares(codes, *weights, ctx.config.reduction, dtype)
            rows = maximum, exp_sum, label_score, cotangent * shares
            found = iter(_GradientsOnce.apply(ctx.config, ctx.needs, *arrays, codes, *rows))
        return None, *(next(found) if need else None for need in ctx.needs), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(_NO_FORWARD_MODE)


class _ScaledOnce(torch.autograd.Function):
    """The gradients from the sums of a `_OnePassFunction`, which cannot be differentiated again.

    A sum that has the dtype of its gradient becomes it: no copy as large as the weight. It
    is then the caller's, who may change it, and no second backward can have it.
    """

    @staticmethod
    def forward(
        ctx: Any, one: Any, saved: tuple[Any, ...], cotangent: Tensor, *inputs: Tensor | None
    ) -> tuple[Tensor, ...]:
        factor: Tensor | None = cotangent * one.scale
        if cotangent.device.type == "cpu" and factor == 1:
            factor = None  # on a GPU nobody looks: the host would wait
        sums = [
            (own if own is not None else total, array)
            for own, total, array in zip(one.own_sums, saved, inputs, strict=True)
        ]
        one.is_spent = any(own is not None for own in one.own_sums)
        one.own_sums = [None, None, None]
        return tuple(
            rounded(total, factor, array.dtype)
            for total, array in sums
            if total is not None and array is not None
        )

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        return _refuse_second_derivative()


class _GradientsOnce(torch.autograd.Function):
    """The gradients that are needed, which cannot be differentiated again.

    Autograd's `once_differentiable` looks at the cotangent alone: for a mean or a sum
    that is a constant, and the second derivative would be zero without a word.
    """

    @staticmethod
    def forward(config: Config, needs: Needs, *arrays: Any) -> tuple[Tensor, ...]:
        return tuple(run_backward(config, needs, *arrays))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, config: Config, needs: Needs, *arrays: Any
    ) -> tuple[Any, Any]:
        one = functools.partial(_GradientsOnce.apply, config, needs)
        return one_by_one(one, info.batch_size, in_dims[2:], arrays)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        return _refuse_second_derivative()


def _refuse_second_derivative() -> NoReturn:
    raise RuntimeError(
        "linear_cross_entropy: second derivatives are not supported; "
        "use standard_linear_cross_entropy"
    )
