"""What a step spends on its matmuls and what on the rest, by the yardsticks of its own run.

    matmuls_s = flops / (6 NVD / the floor's time)
    rest_s = step_s - matmuls_s
    rest_bytes_per_logit = rest_s * (2 VD itemsize / the stream's time) / NV

The rest is passes over the logits, what goes by again for every tile, and launches. In bytes a
logit it can be held against what the operations on a logit read and write.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.measures import (
    FLOOR,
    STREAM,
    GroupKey,
    Record,
    Spread,
    figure,
    group_key,
    is_ok,
    spread,
    step_time,
)
from harness.report.naming import framework_title
from harness.report.rows import Row
from harness.variants import EVERY_VARIANT
from loss_spec import DTYPE_BYTES

MATMULS = "matmuls"
PASSES = "passes"


@dataclass(frozen=True)
class Ceilings:
    """What a device gives one framework at one shape, as its yardsticks measured it."""

    key: GroupKey
    floor: Spread
    stream: Spread

    @property
    def nvd(self) -> int:
        return self.num_logits * self.key.conditions.hidden_dim

    @property
    def num_logits(self) -> int:
        return self.key.conditions.tokens * self.key.vocab_size

    @property
    def flops_per_s(self) -> float:
        return 6 * self.nvd / self.floor.median

    @property
    def bytes_per_s(self) -> float:
        numbers = self.key.vocab_size * self.key.conditions.hidden_dim
        return 2 * numbers * DTYPE_BYTES[self.key.conditions.dtype] / self.stream.median

    @property
    def flops_per_byte(self) -> float:
        return self.flops_per_s / self.bytes_per_s


@dataclass(frozen=True)
class Split:
    """The step of a loss, cut in two."""

    ceilings: Ceilings
    step_s: float
    flops: int
    """Of its matmuls."""

    @property
    def nvd(self) -> float:
        """The same in multiples of N x V x D: 6 for logits, dX and dW."""
        return self.flops / self.ceilings.nvd

    @property
    def matmuls_s(self) -> float:
        return self.flops / self.ceilings.flops_per_s

    @property
    def matmuls_share(self) -> float:
        """Of the step. Above 1 where the matmuls are faster than the floor's, or fewer."""
        return self.matmuls_s / self.step_s

    @property
    def rest_s(self) -> float:
        return self.step_s - self.matmuls_s

    @property
    def rest_bytes_per_logit(self) -> float | None:
        """None where nothing is left."""
        if self.rest_s <= 0:
            return None
        return self.rest_s * self.ceilings.bytes_per_s / self.ceilings.num_logits

    @property
    def bound(self) -> str:
        return MATMULS if self.matmuls_share > 0.5 else PASSES


@dataclass(frozen=True)
class Step:
    """A row of a table that is a loss, and where its time goes."""

    row: Row
    split: Split

    @property
    def framework_title(self) -> str:
        return framework_title(self.row.record["framework"])

    @property
    def title(self) -> str:
        return f"{self.framework_title} {self.row.label}"


def ceilings(records: Sequence[Record]) -> dict[GroupKey, Ceilings]:
    """Of the frameworks and shapes with both yardsticks; one that ran twice has all its samples."""
    samples: dict[tuple[GroupKey, str], list[float]] = {}
    for record in records:
        if record["variant"] in (FLOOR, STREAM) and is_ok(record):
            found = samples.setdefault((group_key(record), record["variant"]), [])
            found += figure(record, "timing", "step_s") or ()
    spreads = {key: each for key, found in samples.items() if (each := spread(found))}
    return {
        key: Ceilings(key, floor, spreads[key, STREAM])
        for (key, variant), floor in spreads.items()
        if variant == FLOOR and (key, STREAM) in spreads
    }


def split(record: Record, known: Mapping[GroupKey, Ceilings]) -> Split | None:
    """None where a yardstick is missing, or for what is no loss with a right answer."""
    found, step, flops = known.get(group_key(record)), step_time(record), _flops(record)
    if found is None or step is None or flops is None or not is_ok(record):
        return None
    return Split(found, step.median, flops)


def steps(rows: Sequence[Row], known: Mapping[GroupKey, Ceilings]) -> list[Step]:
    """Those of the rows that can be split, in their order."""
    found = [(row, split(row.record, known)) for row in rows]
    return [Step(row, parts) for row, parts in found if parts is not None]


def _flops(record: Record) -> int | None:
    """What its plan says, or of other people's what they are known to do."""
    planned: int | None = figure(record, "plan", "flops")
    variant = EVERY_VARIANT.get(record["variant"])
    if planned is not None or variant is None or variant.plans or not variant.is_loss:
        return planned
    products = variant.matmuls
    if record.get("device") == "cpu" and variant.matmuls_on_cpu is not None:
        products = variant.matmuls_on_cpu
    key = group_key(record)
    return 2 * products * key.conditions.tokens * key.vocab_size * key.conditions.hidden_dim
