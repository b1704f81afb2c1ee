"""Whether a case needs more memory than before.

A probe counts the same step the same way each time: the records in `results/` agree to
the byte between runs, and to 8 KiB between processors. The margin of 64 KiB and 1 % is
there for what a compiler or an allocator rounds differently.
"""

from __future__ import annotations

from harness.compare.change import Change, NotJudged, Pair, percent_of
from harness.report.formats import size
from harness.report.measures import figure, memory_bytes

MARGIN_PERCENT = 1
MARGIN_BYTES = 64 * 2**10
# Workspace first: what it grows by, the peak grows by too, but as a smaller part.
FIGURES = ("workspace", "peak")


def judge_memory(pair: Pair) -> Change | NotJudged | None:
    """The first figure that changed beyond the margin."""
    if other := _another_probe(pair, "memory", "probe"):
        return other
    for name in FIGURES:
        if change := _change(name, *(memory_bytes(each, name) for each in (pair.old, pair.new))):
            return change
    return None


def judge_anatomy(pair: Pair) -> Change | NotJudged | None:
    """Its buffers add up to the peak, so that one figure stands for all of them."""
    if other := _another_probe(pair, "anatomy", "source"):
        return other
    return _change("peak", *(figure(e, "anatomy", "peak_bytes") for e in (pair.old, pair.new)))


def _another_probe(pair: Pair, part: str, name: str) -> NotJudged | None:
    old, new = (figure(each, part, name) for each in (pair.old, pair.new))
    if old == new:
        return None
    return NotJudged(f"memory: the probe was {old or 'none'}, is {new or 'none'}")


def _change(name: str, old: int | None, new: int | None) -> Change | None:
    if old is None or new is None:
        return None
    if abs(new - old) <= max(MARGIN_BYTES, old * MARGIN_PERCENT / 100):
        return None
    kind = "larger" if new > old else "smaller"
    return Change(kind, name, size(old), size(new), percent_of(old, new))
