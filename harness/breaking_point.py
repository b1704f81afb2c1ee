"""The search for the largest size at which a step still fits: doubling, then bisection.

Every size is tried by a worker of its own. What to try next follows from what is known
alone, so that a search that was stopped goes on where it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness import record
from harness.cases import Case

TOLERANCE = 0.05
"""The search ends when the smallest that did not fit is no more than this above one that did."""

_LARGEST = 2**31 - 1
"""Labels are 32-bit integers."""

Record = Mapping[str, Any]


def next_size(ran: Sequence[int], failed: Sequence[int], start: int) -> int | None:
    """What to try next, None when the search has ended.

    `ran` and `failed` are the sizes that were tried.
    """
    if not ran and not failed:
        return start
    if not failed:
        return min(2 * max(ran), _LARGEST) if max(ran) < _LARGEST else None
    smallest = min(failed)
    if not ran:
        return smallest // 2 or None
    largest = max(ran)
    if smallest <= largest * (1 + TOLERANCE) or smallest - largest < 2:
        return None
    # The geometric mean halves a ratio; sizes a thousandth apart need not be told apart.
    unit = 1 << max(largest.bit_length() - 10, 0)
    middle = round(math.sqrt(largest * smallest) / unit) * unit
    return min(max(middle, largest + 1), smallest - 1)


def search(
    case: Case,
    known: Mapping[str, Record],
    measure: Callable[[Case], dict[str, Any]],
    run_id: str,
) -> Iterator[dict[str, Any]]:
    """The records of the sizes that `measure` tries, then that of the search itself.

    `known` are records by their `case_id`: what is among them is not tried again.
    """
    tried: dict[int, Record] = {}
    start: int = getattr(case.shape, case.axis)
    while (
        size := next_size(_sizes(tried, record.OK), _sizes(tried, record.OOM), start)
    ) is not None:
        probe = case.probe(size)
        found = known.get(probe.case_id)
        if found is None:
            found = measure(probe)
            yield dict(found)
        tried[size] = found
        if found["status"] not in (record.OK, record.OOM):
            break
    yield conclusion(case, tried, run_id)


def conclusion(case: Case, tried: Mapping[int, Record], run_id: str) -> dict[str, Any]:
    """The record of a search: `ok` when it found both ends, else how its last worker ended.

    It has the shape and the plan of the largest size that ran.
    """
    ran, too_large = _sizes(tried, record.OK), _sizes(tried, record.OOM)
    last = list(tried.values())[-1]
    best = tried[max(ran)] if ran else last
    result = record.new_record(case.probe(max(ran)) if ran else case, run_id)
    result |= {name: best[name] for name in ("device", "environment", "plan")}
    result["case_id"] = case.case_id
    ended = last["status"] in (record.OK, record.OOM)
    result["status"] = record.OK if ended and ran else last["status"]
    result["error"] = None if result["status"] == record.OK else last["error"]
    smallest = min(too_large, default=None)
    failure = last["error"] if smallest is None else tried[smallest]["error"]
    result["breaking_point"] = {
        "axis": case.axis,
        "largest_ran": max(ran, default=None),
        "smallest_failed": smallest,
        "failure": last["error"] if not ended else failure,
        "tolerance": TOLERANCE,
        "tried": [{"size": size, "status": each["status"]} for size, each in tried.items()],
    }
    return result


def _sizes(tried: Mapping[int, Record], status: str) -> list[int]:
    return [size for size, each in tried.items() if each["status"] == status]
