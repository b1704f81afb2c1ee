"""From a record to the figures that tables and plots show.

A figure that was not measured is None, and so is every ratio that would need it. Ratios
compare a record with `standard` or `floor` of its own group only: the same run, framework,
device, dtype, shape, ignored fraction and memory limit.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.cases import BREAKING_POINT, SWEEP

Record = Mapping[str, Any]

FLOOR, STREAM = "floor", "stream"
"""The yardsticks. The floor does a loss's matmuls and is held against losses; the stream does
nothing that a loss does, so that it has no ratio and no place among them in a picture."""


@dataclass(frozen=True)
class Spread:
    """The median of repeated samples with the smallest and the largest of them.

    Minimum and maximum, not quartiles: a case has a handful of repeats, too few for
    quartiles to mean anything, and a single slow one should show.
    """

    median: float
    low: float
    high: float

    @property
    def varies(self) -> bool:
        return self.high > self.low

    @property
    def percent(self) -> float | None:
        """The farthest sample's distance from the median, in percent of the median."""
        if self.median <= 0:
            return None
        return 100 * max(self.high - self.median, self.median - self.low) / self.median


@dataclass(frozen=True)
class Conditions:
    """What one picture holds fixed: everything of a case but framework, variant and V."""

    run: str | None
    """The name of its run in a report of several."""
    batch_size: int
    seq_len: int
    hidden_dim: int
    device: str | None
    dtype: str
    ignored_fraction: float
    memory_limit_gib: float | None

    @property
    def tokens(self) -> int:
        return self.batch_size * self.seq_len


@dataclass(frozen=True)
class GroupKey:
    """Records that share this key may be compared with each other."""

    framework: str
    conditions: Conditions
    vocab_size: int


def of_mode(records: Sequence[Record], mode: str) -> list[Record]:
    """Those of a sweep, an anatomy, ...; records older than modes are of a sweep."""
    return [record for record in records if (record.get("mode") or SWEEP) == mode]


def is_probe(record: Record) -> bool:
    """Whether it is one of the sizes that a search for a breaking point has tried."""
    return record.get("mode") == BREAKING_POINT and not record.get("breaking_point")


def conditions(record: Record) -> Conditions:
    options = record.get("options") or {}
    return Conditions(
        run=record.get("run"),
        batch_size=record["batch_size"],
        seq_len=record["seq_len"],
        hidden_dim=record["hidden_dim"],
        device=record.get("device"),
        dtype=record["dtype"],
        # An option left out and one that switches the feature off are the same condition.
        ignored_fraction=options.get("ignored_fraction") or 0.0,
        memory_limit_gib=options.get("memory_limit_gib") or None,
    )


def group_key(record: Record) -> GroupKey:
    return GroupKey(record["framework"], conditions(record), record["vocab_size"])


def settle(records: Sequence[Record]) -> list[Record]:
    """One record per case, each with the device that it belongs to.

    A case that was run again (a resumed sweep) keeps its last record. A process that died
    before it could name its device ran where the others of its run and framework ran,
    if those agree; without this its mark would fall out of the picture that it belongs to.
    """
    last: dict[object, Record] = {}
    for index, record in enumerate(records):
        case = record.get("case_id")
        key = index if case is None else (record.get("run"), record.get("run_id"), case)
        last.pop(key, None)  # so that the later record also takes the later place
        last[key] = record
    kept = list(last.values())
    devices: dict[tuple[object, ...], set[str]] = {}
    for record in kept:
        if record.get("device") is not None:
            run, framework = record.get("run"), record["framework"]
            devices.setdefault((run, framework), set()).add(record["device"])
            devices.setdefault((run,), set()).add(record["device"])
    return [_with_device(record, devices) for record in kept]


def _with_device(record: Record, devices: Mapping[tuple[object, ...], set[str]]) -> Record:
    if record.get("device") is not None:
        return record
    run = record.get("run")
    found = devices.get((run, record["framework"])) or devices.get((run,), set())
    return {**record, "device": next(iter(found))} if len(found) == 1 else record


def is_ok(record: Record) -> bool:
    return record.get("status") == "ok"


def figure(record: Record, part: str, name: str) -> Any:
    """`record[part][name]`, or None where either is missing or null."""
    return (record.get(part) or {}).get(name)


def spread(samples: Sequence[float] | None) -> Spread | None:
    if not samples:
        return None
    return Spread(statistics.median(samples), min(samples), max(samples))


def step_time(record: Record) -> Spread | None:
    return spread(figure(record, "timing", "step_s"))


def forward_time(record: Record) -> Spread | None:
    return spread(figure(record, "timing", "forward_s"))


def memory_bytes(record: Record, name: str) -> int | None:
    """A memory figure by the contract's word: "peak", "additional", "workspace", ..."""
    value: int | None = figure(record, "memory", f"{name}_bytes")
    return value


def error_over_tolerance(record: Record) -> float | None:
    """The largest of the errors, each over what it may be: above 1 the answer is wrong."""
    numerics = record.get("numerics") or {}
    ratios = [
        numerics[name] / limit if limit else math.inf
        for name, limit in (numerics.get("tolerance") or {}).items()
        if numerics.get(name) is not None
    ]
    # max() may pass over a NaN, which is the worst of all.
    return max(ratios, key=lambda ratio: (math.isnan(ratio), ratio), default=None)


class Baselines:
    """What records are compared with: of each group the last correct result of a variant."""

    def __init__(self, records: Sequence[Record]) -> None:
        self._found = {
            (group_key(record), record["variant"]): record for record in records if is_ok(record)
        }

    def of(self, record: Record, variant: str) -> Record | None:
        return self._found.get((group_key(record), variant))


def baseline(records: Sequence[Record], record: Record, variant: str) -> Record | None:
    """For one record; whoever has many makes the `Baselines` once."""
    return Baselines(records).of(record, variant)


def step_ratio(baselines: Baselines, record: Record, variant: str) -> float | None:
    """Median step time over that of `variant` ("standard" or "floor") in the same group.

    None for a record that is not ok: a fast wrong answer has no ratio to boast of.
    """
    other = baselines.of(record, variant)
    if other is None or not is_ok(record) or record["variant"] == STREAM:
        return None
    own_time, other_time = step_time(record), step_time(other)
    if own_time is None or other_time is None or other_time.median <= 0:
        return None
    return own_time.median / other_time.median


def workspace_ratio(baselines: Baselines, record: Record) -> float | None:
    """Workspace over that of `standard` in the same group, both by one probe."""
    other = baselines.of(record, "standard")
    if other is None or not is_ok(record):
        return None
    if figure(record, "memory", "probe") != figure(other, "memory", "probe"):
        return None
    own_bytes, other_bytes = memory_bytes(record, "workspace"), memory_bytes(other, "workspace")
    if own_bytes is None or other_bytes is None or other_bytes <= 0:
        return None
    return own_bytes / other_bytes
