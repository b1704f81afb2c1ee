"""What can be measured: one line a variant, by dotted name.

Nothing is imported before a worker wants it, so the parent loads no framework and
a worker loads one. A loss is called as `loss(hidden, weight, labels, **options)`;
a variant without numerics is called as `function(hidden, weight)`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the table: the target in each framework, "module:function"."""

    about: str
    targets: dict[str, str]
    options: tuple[str, ...] = ()
    is_loss: bool = True


VARIANTS = {
    "floor": Variant(
        about="the three bare matmuls, 6 NVD: what no loss can be faster than",
        targets={
            "torch": "harness.variants.torch_floor:three_matmuls",
            "jax": "harness.variants.jax_floor:three_matmuls",
        },
        is_loss=False,
    ),
    "standard": Variant(
        about="full logits",
        targets={
            "torch": "torch_impl:standard_linear_cross_entropy",
            "jax": "jax_impl:standard_linear_cross_entropy",
        },
    ),
    "chunked": Variant(
        about="ours: never tokens x vocabulary",
        targets={
            "torch": "torch_impl:linear_cross_entropy",
            "jax": "jax_impl:linear_cross_entropy",
        },
        options=("vocab_chunk", "token_chunk"),
    ),
}
