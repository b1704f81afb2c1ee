"""How PyTorch differentiates, batches and compiles the two-pass loss.

`autograd.Function`s say what the derivatives are, and that there are no others. Under
`torch.compile` two operators hold the loops, each a single node of the graph: traced,
they would unroll into thousands. Elsewhere the loops are called as they are, since the
first call of an operator loads the compiler, a second and 70 MiB.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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
    def forward(config: TwoPass, *arrays: Any) -> tuple[Tensor, ...]:
        return tuple(_forward(config, *arrays))

    @staticmethod
    def vmap(info: Any, in_dims: Any, config: TwoPass, *arrays: Any) -> tuple[Any, Any]:
        one = functools.partial(_TwoPassFunction.apply, config)
        return _one_by_one(one, info.batch_size, in_dims[1:], arrays)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(_NO_FORWARD_MODE)


class _GradientsOnce(torch.autograd.Function):
    """The gradients that are needed, which cannot be differentiated again.

    Autograd's `once_differentiable` looks at the cotangent alone: for a mean or a sum
    that is a constant, and the second derivative would be zero without a word.
    """

    @staticmethod
    def forward(config: TwoPass, needs: Needs, *arrays: Any) -> tuple[Tensor, ...]:
        return tuple(_backward(config, needs, *arrays))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def vmap(
        info: Any, in_dims: Any, config: TwoPass, needs: Needs, *arrays: Any
    ) -> tuple[Any, Any]:
        one = functools.partial(_GradientsOnce.apply, config, needs)
        return _one_by_one(one, info.batch_size, in_dims[2:], arrays)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "linear_cross_entropy: second derivatives are not supported; "
            "use standard_linear_cross_entropy"
        )


def _forward(
    config: TwoPass,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    class_weight: Tensor | None,
    codes: Tensor,
) -> list[Tensor]:
    """The losses, then the statistics that are there."""
    # Its operands are chosen already; autocast must not choose again.
    with torch.autocast(hidden.device.type, enabled=False):
        losses, statistics = two_pass_forward(config, hidden, weight, bias, class_weight, codes)
    prediction = [] if statistics.prediction is None else [statistics.prediction]
    return [losses, *statistics[:3], *prediction]


def _statistics(rows: list[Tensor]) -> Statistics:
    maximum, exp_sum, label_logit, *prediction = rows
    return Statistics(maximum, exp_sum, label_logit, None, *prediction)


def _backward(
    config: TwoPass,
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
    with torch.autocast(hidden.device.type, enabled=False):
        arrays = hidden, weight, bias, class_weight, codes
        grads = two_pass_backward(config, needs, *arrays, _statistics(statistics), cotangent)
    return [grad for grad in grads if grad is not None]


def _one_by_one(
    call: Callable[..., Any],
    batch_size: int,
    in_dims: tuple[int | None, ...],
    arguments: tuple[Any, ...],
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """One call for each element of a batch: as lean as the loss of one, and as exact."""
    calls = [
        call(
            *(
                argument if dim is None else argument.select(dim, index)
                for argument, dim in zip(arguments, in_dims, strict=True)
            )
        )
        for index in range(batch_size)
    ]
    outputs = tuple(torch.stack(column) for column in zip(*calls, strict=True))
    return outputs, (0,) * len(outputs)


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
def _forward_operator(*arguments: Any) -> list[Tensor]:
    arrays, config = arguments[:5], _config(arguments[5:])
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
        f"({_ARRAYS}, Tensor maximum, Tensor exp_sum, Tensor label_logit, Tensor cotangent, "
        f"bool needs_hidden, bool needs_weight, bool needs_bias, {_CONFIG}) -> Tensor[]"
    ),
)
def _backward_operator(*arguments: Any) -> list[Tensor]:
    arrays, needs, config = arguments[:9], Needs(*arguments[9:12]), _config(arguments[12:])
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


def _flat(config: TwoPass) -> tuple[Any, ...]:
    objective, *others = config
    return *objective, *others


def _config(flat: tuple[Any, ...]) -> TwoPass:
    fields = len(Objective._fields)
    return TwoPass(Objective(*flat[:fields]), *flat[fields:])
