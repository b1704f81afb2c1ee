"""What can be measured: one line a variant, by dotted name.

Nothing is imported before a worker wants it, so the parent loads no framework and
a worker loads one. A loss is called as `loss(hidden, weight, labels, **options)`;
a variant without numerics is called as `function(hidden, weight)`.

`VARIANTS` is what a run measures unless asked for more, `STRATEGIES` ours with the
strategy settled, `PEERS` other people's, `YARDSTICKS` what is no loss; `EVERY_VARIANT` is
all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One row of the table: the target in each framework, "module:function"."""

    about: str
    targets: dict[str, str]
    options: tuple[str, ...] = ()
    """Those of the command line that it takes."""
    settled: tuple[tuple[str, str], ...] = ()
    """Options that make it what it is."""
    plans: dict[str, str] = field(default_factory=dict)
    """What says beforehand what it will do, where there is such a thing."""
    is_loss: bool = True
    matmuls: int = 3
    """Of a loss without a plan: products of 2 NVD operations in a step.

    Logits, dX and dW; a fourth where the logits are formed again for the gradients.
    """
    matmuls_on_cpu: int | None = None
    """The same on a CPU, for one that has another implementation there."""
    needs: str = ""
    labels_dtype: str = ""
    """What labels must be beforehand, for one that does not take them as they are drawn."""
    not_on_cpu: str = ""
    """Why it cannot be measured on a CPU, if so."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that its process must have from the start on a CPU.

    Read by `harness.conformance` alone: what needs them cannot be timed there (`not_on_cpu`).
    """


_OURS = {"torch": "torch_impl:linear_cross_entropy", "jax": "jax_impl:linear_cross_entropy"}
_PLANS = {"torch": "torch_impl:plan", "jax": "jax_impl:plan"}
_CHUNKING = ("vocab_chunk", "token_chunk", "memory_budget")

# What the device gives, beside which a loss is seen: time only.
YARDSTICKS = {
    "floor": Variant(
        about="the three bare matmuls, 6 NVD, over whole logits: the yardstick of every loss",
        targets={
            "torch": "harness.variants.torch_floor:three_matmuls",
            "jax": "harness.variants.jax_floor:three_matmuls",
        },
        is_loss=False,
    ),
    "stream": Variant(
        about="one pass over the weight, read, negated and written: what the memory gives",
        targets={
            "torch": "harness.variants.torch_stream:negated_weight",
            "jax": "harness.variants.jax_stream:negated_weight",
        },
        is_loss=False,
    ),
}

VARIANTS = {
    "floor": YARDSTICKS["floor"],
    "standard": Variant(
        about="full logits",
        targets={
            "torch": "torch_impl:standard_linear_cross_entropy",
            "jax": "jax_impl:standard_linear_cross_entropy",
        },
    ),
    "chunked": Variant(
        about="ours, the strategy chosen by its plan: never tokens x vocabulary",
        targets=_OURS,
        options=_CHUNKING,
        plans=_PLANS,
    ),
}

# Not for `python -m harness.conformance`, which calls every target without options of its own.
STRATEGIES = {
    name: Variant(
        about=about,
        targets=_OURS,
        options=_CHUNKING,
        settled=(("strategy", name),),
        plans=_PLANS,
    )
    for name, about in (
        ("two_pass", "ours, the logits computed again for the gradients"),
        ("one_pass", "ours, the gradients formed while the logits are there"),
    )
}

# Other people's losses: what `python -m harness.conformance` holds against the same cases.
PEERS = {
    "linear_cross_entropy": Variant(
        about="PyTorch's F.linear_cross_entropy without options: full logits",
        targets={"torch": "harness.variants.torch_peers:linear_cross_entropy"},
        needs="PyTorch 2.13",
        labels_dtype="int64",
    ),
    "linear_cross_entropy_chunked": Variant(
        about="F.linear_cross_entropy with the default LinearCrossEntropyOptions: tokens in chunks",
        targets={"torch": "harness.variants.torch_peers:linear_cross_entropy_chunked"},
        options=("token_chunk",),
        needs="PyTorch 2.13",
        labels_dtype="int64",
    ),
    "compiled": Variant(
        about="torch.compile of full logits",
        targets={"torch": "harness.variants.torch_peers:compiled_cross_entropy"},
        needs="a C++ compiler",
    ),
    "cut_cross_entropy": Variant(
        about="apple/ml-cross-entropy; on a CPU its torch_compile path",
        targets={"torch": "harness.variants.torch_peers:cut_cross_entropy"},
        # Its kernels keep no logits: formed again, less the blocks whose gradient is nothing.
        matmuls=4,
        matmuls_on_cpu=3,
        needs="cut-cross-entropy, and a C++ compiler on a CPU",
    ),
    "liger": Variant(
        about="linkedin/Liger-Kernel; on a CPU in Triton's interpreter",
        targets={"torch": "harness.variants.torch_peers:liger"},
        environment=(("TRITON_INTERPRET", "1"),),
        needs="liger-kernel, and a GPU to be timed",
        not_on_cpu="on a CPU Liger runs in Triton's interpreter, far too slow to be timed",
    ),
    "quack": Variant(
        about="Dao-AILab/quack, tokens in chunks, for 16-bit inputs",
        targets={"torch": "harness.variants.torch_peers:quack"},
        needs="quack-kernels, and an NVIDIA GPU of compute capability 9.0 or later",
        not_on_cpu="quack needs an NVIDIA GPU of compute capability 9.0 or later",
    ),
    "optax": Variant(
        about="optax on full logits",
        targets={"jax": "harness.variants.jax_peers:optax"},
        needs="optax",
    ),
    "tokamax": Variant(
        about="openxla/tokamax, chunked_xla",
        targets={"jax": "harness.variants.jax_peers:tokamax"},
        matmuls=4,  # a tile's logits are formed again for the gradients
        needs="tokamax, and Python 3.12 or later",
    ),
}

# Yardsticks first: what others are divided by runs next to them.
EVERY_VARIANT = YARDSTICKS | VARIANTS | STRATEGIES | PEERS
