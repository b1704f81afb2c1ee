"""How PyTorch differentiates, batches and compiles the two strategies.

`autograd.Function`s say what the derivatives are, and that there are no others. Under
`torch.compile` two operators hold the loops, each a single node of the graph: traced,
they would unroll into thousands. Elsewhere the loops are called as they are, since the
first call of an operator loads the compiler, a second and 70 MiB.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd import forward_ad

from loss_spec import EVERYTHING, Needs, Objective
from torch_impl.config import Config
from torch_impl.gradients import rounded
from torch_impl.matmul import accumulation_dtype
from torch_impl.one_pass import one_pass_forward
from torch_impl.planning import with_tiles
from torch_impl.reduction import token_shares
from torch_impl.statistics import Statistics
from torch_impl.two_pass import two_pass_backward, two_pass_forward


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
        arrays = *ctx.saved_tensors, cotangent
        if torch.compiler.is_compiling():
            found = iter(_backward_operator(*arrays, *needs, *_flat(ctx.config)))
        else:
            found = iter(_GradientsOnce.apply(ctx.config, needs, *arrays))
        return None, *(next(found) if need else None for need in needs), None, None


class _TwoPassFunction(_TwoPassTraced):
    """The same without operators, and with a word about forward mode."""

    generate_vmap_rule = False

    @staticmethod
    def forward(config: Config, *arrays: Any) -> tuple[Tensor, ...]:
        return tuple(_forward(config, *arrays))

    @staticmethod
    def vmap(info: Any, in_dims: Any, config: Config, *arrays: Any) -> tuple[Any, Any]:
        one = functools.partial(_TwoPassFunction.apply, config)
        return _one_by_one(one, info.batch_size, in_dims[1:], arrays)

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
    return loss, _statistics(statistics)


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
        with _without_autocast(hidden):
            loss, statistics, sums, ctx.scale = one_pass_forward(config, ctx.needs, *arrays)
        rows = _rows(statistics)
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
        return tuple(_backward(config, needs, *arrays))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, config: Config, needs: Needs, *arrays: Any
    ) -> tuple[Any, Any]:
        one = functools.partial(_GradientsOnce.apply, config, needs)
        return _one_by_one(one, info.batch_size, in_dims[2:], arrays)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        return _refuse_second_derivative()


def _refuse_second_derivative() -> NoReturn:
    raise RuntimeError(
        "linear_cross_entropy: second derivatives are not supported; "
        "use standard_linear_cross_entropy"
    )


def _forward(
    config: Config,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    codes: Tensor,
) -> list[Tensor]:
    """The losses, then the statistics that are there."""
    with _without_autocast(hidden):
        losses, statistics = two_pass_forward(config, hidden, weight, bias, class_weight, codes)
    return [losses, *_rows(statistics)]


def _rows(statistics: Statistics) -> list[Tensor]:
    """The statistics that anybody needs later."""
    prediction = [] if statistics.prediction is None else [statistics.prediction]
    return [*statistics[:3], *prediction]


def _statistics(rows: list[Tensor]) -> Statistics:
    maximum, exp_sum, label_score, *prediction = rows
    return Statistics(maximum, exp_sum, label_score, None, *prediction)


def _backward(
    config: Config,
    needs: Needs,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    codes: Tensor,
    *statistics_and_cotangent: Tensor,
) -> list[Tensor]:
    """The gradients that are needed, in the order of the inputs."""
    *statistics, cotangent = statistics_and_cotangent
    with _without_autocast(hidden):
        arrays = hidden, weight, bias, class_weight, codes
        grads = two_pass_backward(config, needs, *arrays, _statistics(statistics), cotangent)
    return [grad for grad in grads if grad is not None]


def _without_autocast(hidden: Tensor) -> contextlib.AbstractContextManager[Any]:
    """The operands are chosen already; autocast must not choose again."""
    if not torch.amp.is_autocast_available(hidden.device.type):
        return contextlib.nullcontext()
    return torch.autocast(hidden.device.type, enabled=False)


def _one_by_one(
    call: Callable[..., Any],
    batch_size: int,
    in_dims: tuple[int | None, ...],
    arguments: tuple[Any, ...],
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """One call for each element of a batch: as lean as the loss of one, and as exact."""

    def of_one(select: Callable[[Tensor, int], Tensor]) -> Any:
        return call(
            *(
                argument if dim is None else select(argument, dim)
                for argument, dim in zip(arguments, in_dims, strict=True)
            )
        )

    if batch_size == 0:  # what there would be for a problem of zeros says the shapes
        shapes = of_one(lambda argument, dim: argument.sum(dim).to(argument.dtype))
        outputs = tuple(rows.new_empty((0, *rows.shape)) for rows in shapes)
    else:
        calls = [of_one(functools.partial(torch.select, index=i)) for i in range(batch_size)]
        outputs = tuple(torch.stack(column) for column in zip(*calls, strict=True))
    return outputs, (0,) * len(outputs)


_ARRAYS = "Tensor hidden, Tensor weight, Tensor? bias, Tensor? class_weight, Tensor codes"
_CONFIG = (
    "float label_smoothing, float logit_scale, float? logit_softcap, float z_loss, "
    "str reduction, int vocab_chunk, int token_chunk, int memory_budget, bool prediction, "
    "ScalarType dtype"
)


@torch.library.custom_op(
    "memory_efficient_logits::two_pass_forward",
    mutates_args=(),
    schema=f"({_ARRAYS}, {_CONFIG}) -> Tensor[]",
)
def _forward_operator(*arguments: Any) -> list[Tensor]:
    arrays, config = arguments[:5], _config(arguments[5:])
    config = with_tiles(config, EVERYTHING, *arrays[:2])
    return _forward(config, *arrays)


@_forward_operator.register_fake
def _(*arguments: Any) -> list[Tensor]:
    hidden, config = arguments[0], _config(arguments[5:])
    dtype = accumulation_dtype(config.dtype)
    rows = [hidden.new_empty(hidden.shape[0], dtype=dtype) for _ in range(4)]
    if config.prediction:
        rows.append(hidden.new_empty(hidden.shape[0], dtype=torch.int32))
    return rows


@torch.library.custom_op(
    "memory_efficient_logits::two_pass_backward",
    mutates_args=(),
    schema=(
        f"({_ARRAYS}, Tensor maximum, Tensor exp_sum, Tensor label_score, Tensor cotangent, "
        f"bool needs_hidden, bool needs_weight, bool needs_bias, {_CONFIG}) -> Tensor[]"
    ),
)
def _backward_operator(*arguments: Any) -> list[Tensor]:
    arrays, needs, config = arguments[:9], Needs(*arguments[9:12]), _config(arguments[12:])
    config = with_tiles(config, EVERYTHING, *arrays[:2])
    return _backward(config, needs, *arrays)


@_backward_operator.register_fake
def _(*arguments: Any) -> list[Tensor]:
    inputs, needs = arguments[:3], arguments[9:12]
    return [torch.empty_like(array) for array, need in zip(inputs, needs, strict=True) if need]


def _register_vmap(operator: Any) -> None:
    def vmap(info: Any, in_dims: tuple[int | None, ...], *arguments: Any) -> tuple[Any, Any]:
        outputs, out_dims = _one_by_one(operator, info.batch_size, in_dims, arguments)
        return list(outputs), list(out_dims)

    operator.register_vmap(vmap)


_register_vmap(_forward_operator)
_register_vmap(_backward_operator)


def _flat(config: Config) -> tuple[Any, ...]:
    objective, *others = config
    return *objective, *others


def _config(flat: tuple[Any, ...]) -> Config:
    fields = len(Objective._fields)
    return Config(Objective(*flat[:fields]), *flat[fields:])
