"""Whether training curves lie on each other: the relative difference at every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.report.naming import framework_title
from harness.train.runs import OK

Record = dict[str, Any]

SAME_FRAMEWORK, OTHER_FRAMEWORK = 1e-4, 1e-3


@dataclass(frozen=True)
class Comparison:
    """Of a run with the one that it should equal."""

    name: str
    of: str
    differences: tuple[float, ...]
    """|loss - reference| / reference, at each step"""
    limit: float

    @property
    def title(self) -> str:
        return f"{run_title(*self.name.split())} against {run_title(*self.of.split())}"

    @property
    def largest_so_far(self) -> tuple[float, ...]:
        return tuple(np.maximum.accumulate(self.differences).tolist())

    @property
    def largest(self) -> float:
        """NaN if one is."""
        return float(np.max(self.differences))

    @property
    def holds(self) -> bool:
        return self.largest <= self.limit


def run_title(framework: str, loss: str) -> str:
    return f"{framework_title(framework)} {loss}"


def comparisons(records: Sequence[Record]) -> list[Comparison]:
    """Chunked against standard in each framework, and JAX against PyTorch with each loss."""
    runs = {record["case_id"]: record for record in records if record["status"] == OK}
    pairs = [
        ("torch chunked", "torch standard", SAME_FRAMEWORK),
        ("jax chunked", "jax standard", SAME_FRAMEWORK),
        ("jax standard", "torch standard", OTHER_FRAMEWORK),
        ("jax chunked", "torch chunked", OTHER_FRAMEWORK),
    ]
    return [
        Comparison(name, of, _differences(runs[name], runs[of]), limit)
        for name, of, limit in pairs
        if name in runs and of in runs
    ]


def _differences(run: Record, reference: Record) -> tuple[float, ...]:
    both = zip(run["train_loss"], reference["train_loss"], strict=True)
    return tuple(abs(loss - expected) / abs(expected) for loss, expected in both)
