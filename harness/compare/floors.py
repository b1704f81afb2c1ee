"""How much of a difference in time is the machine's: what the bare matmuls took in both runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from harness.report.measures import FLOOR, GroupKey, Record, group_key, is_ok, step_time


def floors_s(records: Sequence[Record]) -> dict[GroupKey, float]:
    """Median step of the floor for each framework and shape; the last where it ran twice."""
    floors = {}
    for record in records:
        if record["variant"] == FLOOR and is_ok(record) and (time := step_time(record)):
            floors[group_key(record)] = time.median
    return floors


def machine_ratio(
    old_floors_s: Mapping[GroupKey, float], new_floors_s: Mapping[GroupKey, float]
) -> float | None:
    """New time over old, the median of all floors: one of them alone is as noisy as a case."""
    ratios = [new_floors_s[key] / old_floors_s[key] for key in old_floors_s.keys() & new_floors_s]
    return median(ratios) if ratios else None
