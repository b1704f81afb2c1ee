"""One case: everything that a worker needs to know, and nothing that it must look up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from harness.presets import Preset
from harness.variants import EVERY_VARIANT, Variant
from loss_spec import DTYPE_BYTES

# What is wanted of a case: times, memory and errors; one step taken apart; or whether a step
# fits at all.
SWEEP = "sweep"
ANATOMY = "anatomy"
BREAKING_POINT = "breaking_point"
MODES = (SWEEP, ANATOMY, BREAKING_POINT)
AXES = ("vocab_size", "num_tokens")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The arrays of a case; cases with equal shapes get the same bits."""

    batch_size: int
    seq_len: int
    hidden_dim: int
    vocab_size: int
    dtype: str
    ignored_fraction: float
    seed: int

    @property
    def num_tokens(self) -> int:
        return self.batch_size * self.seq_len

    @property
    def inputs_bytes(self) -> int:
        """Hidden, weight and 32-bit labels."""
        return self.gradients_bytes + 4 * self.num_tokens

    @property
    def gradients_bytes(self) -> int:
        """dX and dW, which any loss must return."""
        elements = (self.num_tokens + self.vocab_size) * self.hidden_dim
        return elements * DTYPE_BYTES[self.dtype]

    @property
    def logits_bytes(self) -> int:
        """The [N, V] logits in float32 (float64 for float64)."""
        return self.num_tokens * self.vocab_size * max(4, DTYPE_BYTES[self.dtype])


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """How a case is measured; the same for all cases of a run."""

    warmup: int
    repeats: int
    timeout_s: float
    device: str
    memory_limit_gib: float | None
    trace: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """One variant of one framework at one shape."""

    framework: str
    variant: str
    target: str
    is_loss: bool
    options: dict[str, int | str]
    plan_target: str | None
    labels_dtype: str
    not_on_cpu: str
    shape: Shape
    measurement: Measurement
    is_repetition: bool = False
    """Whether the same case stands earlier in the run: what differs between them is drift."""
    mode: str = SWEEP
    axis: str = ""
    """Of a search for the breaking point: what grows. A worker gets the single probes."""

    @property
    def case_id(self) -> str:
        """Names the case in full: a resumed run skips the ids it has records of."""
        shape, limit = self.shape, self.measurement.memory_limit_gib
        parts = [
            f"{self.framework}-{self.variant}-{shape.dtype}-b{shape.batch_size}-s{shape.seq_len}"
            f"-d{shape.hidden_dim}-v{shape.vocab_size}-seed{shape.seed}",
            # A strategy is what the variant is called.
            *(f"{name}{value}" for name, value in self.options.items() if name != "strategy"),
            *([f"ignored{shape.ignored_fraction:g}"] if shape.ignored_fraction else []),
            *([f"limit{limit:g}gib"] if limit is not None else []),
            *(["again"] if self.is_repetition else []),
            *([] if self.mode == SWEEP else [self.mode]),
            *([self.axis] if self.axis else []),
        ]
        return "-".join(parts)

    def probe(self, size: int) -> Case:
        """The case that tries one size on the way to the breaking point."""
        if self.axis == "vocab_size":
            shape = replace(self.shape, vocab_size=size)
        else:
            shape = replace(self.shape, batch_size=1, seq_len=size)
        return replace(self, shape=shape, axis="")

    def to_json(self) -> dict[str, Any]:
        return {"case_id": self.case_id, **asdict(self)}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Case:
        given = {
            **fields,
            "shape": Shape(**fields["shape"]),
            "measurement": Measurement(**fields["measurement"]),
        }
        del given["case_id"]
        return cls(**given)


def make_case(
    framework: str,
    name: str,
    shape: Shape,
    measurement: Measurement,
    options: dict[str, int],
    *,
    is_repetition: bool = False,
    mode: str = SWEEP,
    axis: str = "",
) -> Case:
    """A case of a variant that the framework has; options that it does not take are left out."""
    variant = EVERY_VARIANT[name]
    return Case(
        framework=framework,
        variant=name,
        target=variant.targets[framework],
        is_loss=variant.is_loss,
        options={**dict(variant.settled), **_taken(variant, options)},
        plan_target=variant.plans.get(framework),
        labels_dtype=variant.labels_dtype,
        not_on_cpu=variant.not_on_cpu,
        shape=shape,
        measurement=measurement,
        is_repetition=is_repetition,
        mode=mode,
        axis=axis,
    )


def make_cases(
    *,
    frameworks: Sequence[str],
    variants: Sequence[str],
    preset: Preset,
    ignored_fraction: float,
    seed: int,
    options: dict[str, int],
    measurement: Measurement,
    mode: str = SWEEP,
    axis: str = "",
) -> list[Case]:
    """All cases of a run: shape by shape, so that what is compared runs close together."""
    shapes = [
        Shape(
            batch_size=preset.batch_size,
            seq_len=preset.seq_len,
            hidden_dim=preset.hidden_dim,
            vocab_size=vocab_size,
            dtype=preset.dtype,
            ignored_fraction=ignored_fraction,
            seed=seed,
        )
        for vocab_size in preset.vocab_sizes
    ]
    return [
        make_case(framework, name, shape, measurement, options, mode=mode, axis=axis)
        for shape, framework, name in product(shapes, frameworks, variants)
        if framework in EVERY_VARIANT[name].targets
    ]


def _taken(variant: Variant, options: dict[str, int]) -> dict[str, int]:
    return {name: value for name, value in options.items() if name in variant.options}
