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
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that must be set before its process starts."""


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

# Other people's losses: what `python -m harness.conformance` holds against the same cases.
PEERS = {
    "linear_cross_entropy": Variant(
        about="PyTorch's F.linear_cross_entropy without options: full logits",
        targets={"torch": "harness.variants.torch_peers:linear_cross_entropy"},
    ),
    "linear_cross_entropy_chunked": Variant(
        about="PyTorch's F.linear_cross_entropy with LinearCrossEntropyOptions",
        targets={"torch": "harness.variants.torch_peers:linear_cross_entropy_chunked"},
    ),
    "compiled": Variant(
        about="torch.compile of full logits",
        targets={"torch": "harness.variants.torch_peers:compiled_cross_entropy"},
    ),
    "cut_cross_entropy": Variant(
        about="apple/ml-cross-entropy; on a CPU its torch_compile path",
        targets={"torch": "harness.variants.torch_peers:cut_cross_entropy"},
    ),
    "liger": Variant(
        about="linkedin/Liger-Kernel; on a CPU in Triton's interpreter",
        targets={"torch": "harness.variants.torch_peers:liger"},
        environment=(("TRITON_INTERPRET", "1"),),
    ),
    "optax": Variant(
        about="optax on full logits",
        targets={"jax": "harness.variants.jax_peers:optax"},
    ),
    "tokamax": Variant(
        about="openxla/tokamax, chunked_xla",
        targets={"jax": "harness.variants.jax_peers:tokamax"},
    ),
}
