"""Which combinations of conditions get pictures, where there are too many for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.report.measures import Conditions, Record, is_ok

# Four pictures each: more than these nobody looks at, and drawing them takes long.
MOST = 4


def pictured(groups: Mapping[Conditions, Sequence[Record]]) -> list[Conditions]:
    """Those with the most results, from each run in turn; in the order of the groups."""
    by_results = sorted(groups, key=lambda held: -sum(map(is_ok, groups[held])))
    runs: dict[str | None, list[Conditions]] = {}
    for held in by_results:
        runs.setdefault(held.run, []).append(held)
    turn = {held: turn for each in runs.values() for turn, held in enumerate(each)}
    chosen = set(sorted(by_results, key=lambda held: turn[held])[:MOST])
    return [held for held in groups if held in chosen]


def pictured_note(
    groups: Mapping[Conditions, Sequence[Record]], what: str = "Pictures"
) -> list[str]:
    if len(groups) <= MOST:
        return []
    return [
        f"{what}: {MOST} of the {len(groups)} combinations of run, shape, dtype and device, "
        "those with the most results; the tables have all."
    ]
