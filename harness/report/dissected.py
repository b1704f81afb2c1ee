"""The anatomies among the records, as the tables and pictures want them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.cases import ANATOMY
from harness.memory.anatomy import GRADIENT, INPUT, UNUSED, WORKSPACE
from harness.report.measures import (
    Conditions,
    Record,
    conditions,
    figure,
    is_ok,
    of_mode,
)
from harness.report.naming import describe, set_apart
from harness.report.series import Series, make_series

COMPARED = ("standard", "chunked")
"""The variants that an anatomy is about."""
MEANINGS = {
    INPUT: "inputs",
    GRADIENT: "gradients, which the caller keeps",
    WORKSPACE: "workspace",
    UNUSED: "assigned by XLA, in use at another moment",
}
"""The kinds of buffers in the order in which they are shown."""


@dataclass(frozen=True)
class Part:
    """A buffer that was alive at the peak."""

    kind: str
    name: str
    size_bytes: int
    asked_by: str

    @property
    def is_of_many(self) -> bool:
        """Whether it stands for small buffers that the record does not tell apart."""
        return re.fullmatch(r"\d+ small buffers", self.name) is not None


@dataclass(frozen=True, eq=False)
class Dissected:
    """One step taken apart; `series` has its framework, its variant and their look."""

    series: Series
    parts: tuple[Part, ...]
    """Kind by kind, the largest of each first."""
    peak_bytes: int
    timeline: tuple[tuple[float, int], ...]
    """Seconds, and the bytes alive beyond the inputs."""
    step_s: float
    backward_s: float | None
    assigned_bytes: int | None
    """What XLA sets aside beyond the inputs, from the first moment to the last."""

    @property
    def title(self) -> str:
        return self.series.title

    @property
    def most_bytes(self) -> int:
        """Alive at once beyond the inputs."""
        return max(alive for _, alive in self.timeline)

    def total(self, kind: str) -> int:
        return sum(part.size_bytes for part in self.parts if part.kind == kind)

    @property
    def largest(self) -> Part | None:
        """Of the workspace."""
        found = [part for part in self.parts if part.kind == WORKSPACE]
        return found[0] if found else None


@dataclass(frozen=True)
class Shape:
    """What the anatomies of one picture have in common."""

    conditions: Conditions
    vocab_size: int

    @property
    def described(self) -> str:
        return f"{describe(self.conditions)}, {self._vocabulary}"

    def set_apart(self, among: Collection[Shape]) -> str:
        """Of its description what the others do not share."""
        parts = [
            set_apart(self.conditions, [other.conditions for other in among]),
            *([self._vocabulary] if len({other.vocab_size for other in among}) > 1 else []),
        ]
        return ", ".join(filter(None, parts))

    @property
    def _vocabulary(self) -> str:
        return f"V = {self.vocab_size}"


def dissected(records: Sequence[Record]) -> dict[Shape, list[Dissected]]:
    """By shape, standard first, then framework by framework."""
    groups: dict[Shape, list[Record]] = {}
    found = [record for record in of_mode(records, ANATOMY) if is_ok(record)]
    for record in found:
        groups.setdefault(Shape(conditions(record), record["vocab_size"]), []).append(record)
    return {
        shape: [_dissected(series) for series in make_series(group, found)]
        for shape, group in groups.items()
    }


def on_one_axis(steps: Sequence[Dissected]) -> tuple[list[Dissected], list[Dissected]]:
    """Standard and chunked, and the others: a picture of all their lines could not be read."""
    if not {step.series.variant for step in steps}.issuperset(COMPARED):
        return list(steps), []
    first = [step for step in steps if step.series.variant in COMPARED]
    return first, [step for step in steps if step.series.variant not in COMPARED]


def _dissected(series: Series) -> Dissected:
    anatomy = series.results[-1]["anatomy"]
    inputs_bytes = sum(each["size_bytes"] for each in anatomy["buffers"] if each["kind"] == INPUT)
    order = list(MEANINGS)
    parts = [Part(**each) for each in anatomy["buffers"]]
    return Dissected(
        series=series,
        parts=tuple(sorted(parts, key=lambda part: (order.index(part.kind), -part.size_bytes))),
        peak_bytes=anatomy["peak_bytes"],
        timeline=tuple((seconds, alive - inputs_bytes) for seconds, alive in anatomy["timeline"]),
        step_s=anatomy["step_s"],
        backward_s=anatomy["backward_s"],
        assigned_bytes=(
            anatomy["peak_bytes"] - inputs_bytes if series.framework == "jax" else None
        ),
    )


def sources(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Which framework's anatomies come from what."""
    pairs = {
        (record["framework"], figure(record, "anatomy", "source")): None
        for record in of_mode(records, ANATOMY)
        if is_ok(record)
    }
    return sorted(pairs)
