"""The loss as a module: its options, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxtyping import Float, Integer
from torch import Tensor, nn

from loss_spec import LossOptions, check_option_names
from torch_impl.loss import linear_cross_entropy


class LinearCrossEntropyLoss(nn.Module):
    """`linear_cross_entropy` with the options given once.

        loss = LinearCrossEntropyLoss(label_smoothing=0.1)
        loss(hidden, head.weight, labels, bias=head.bias).backward()

    It owns no weight: that of the head, which may be tied, goes into each call. Takes
    the options of `linear_cross_entropy` and raises what that raises for them, here and
    not in the first step. A `class_weight` is a buffer, as in `nn.CrossEntropyLoss`.
    """

    class_weight: Tensor | None

    def __init__(self, *, class_weight: Float[Tensor, " V"] | None = None, **options: Any) -> None:
        super().__init__()
        check_option_names(options, beside=["class_weight"])
        if class_weight is not None:
            _check_class_weight(class_weight)
        self.options = LossOptions(**options)
        self.register_buffer("class_weight", class_weight)

    def forward(
        self,
        hidden: Float[Tensor, "... D"],
        weight: Float[Tensor, "V D"] | Float[Tensor, "D V"],
        labels: Integer[Tensor, "..."],
        *,
        bias: Float[Tensor, " V"] | None = None,
        token_weight: Float[Tensor, "..."] | None = None,
    ) -> Any:
        """What `linear_cross_entropy` returns for these arrays and the module's options."""
        return linear_cross_entropy(
            hidden,
            weight,
            labels,
            bias=bias,
            class_weight=self.class_weight,
            token_weight=token_weight,
            **dataclasses.asdict(self.options),
        )

    def extra_repr(self) -> str:
        """The options that are not the default."""
        return ", ".join(
            f"{field.name}={value!r}"
            for field in dataclasses.fields(self.options)
            if (value := getattr(self.options, field.name)) != field.default
        )


def _check_class_weight(class_weight: Tensor) -> None:
    if not isinstance(class_weight, Tensor) or not class_weight.is_floating_point():
        got = getattr(class_weight, "dtype", type(class_weight).__name__)
        raise TypeError(f"class_weight: expected a floating-point torch.Tensor, got {got}")
    if class_weight.ndim != 1:
        raise ValueError(f"class_weight: expected shape [V], got {list(class_weight.shape)}")
