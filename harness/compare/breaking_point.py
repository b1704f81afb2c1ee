"""Whether a case breaks at a smaller size than before.

A search leaves two sizes, the largest that ran and the smallest that failed, at most 5 %
apart. It breaks earlier if a size fails now that is smaller than one that ran, and the
largest that ran fell by more than that 5 %: runs that differ by one step of the search
may have met the same limit. A search that ended without a failure has found no limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.breaking_point import TOLERANCE
from harness.compare.change import Change, NotJudged, Pair, percent_of

Found = Mapping[str, Any]


def judge_breaking_point(pair: Pair) -> Change | NotJudged | None:
    old, new = pair.old["breaking_point"], pair.new["breaking_point"]
    if old["axis"] != new["axis"]:
        return NotJudged(f"breaking point: the axis was {old['axis']}, is {new['axis']}")
    if _breaks_earlier(old, new):
        kind = "breaks earlier"
    elif _breaks_earlier(new, old):
        kind = "breaks later"
    else:
        return None
    before, after = _largest_ran(old), _largest_ran(new)
    return Change(kind, old["axis"], f"{before:,}", f"{after:,}", percent_of(before, after))


def _breaks_earlier(old: Found, new: Found) -> bool:
    if new["smallest_failed"] is None:
        return False
    allowed = _largest_ran(old) * (1 - TOLERANCE)
    return new["smallest_failed"] < _largest_ran(old) and _largest_ran(new) < allowed


def _largest_ran(found: Found) -> int:
    """0 where not even the smallest ran."""
    return found["largest_ran"] or 0
