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
    old_probe, new_probe = (figure(each, "memory", "probe") for each in (pair.old, pair.new))
    if old_probe != new_probe:
        return NotJudged(f"memory: the probe was {old_probe or 'none'}, is {new_probe or 'none'}")
    for name in FIGURES:
        old, new = memory_bytes(pair.old, name), memory_bytes(pair.new, name)
        if old is None or new is None:
            continue
        if abs(new - old) > max(MARGIN_BYTES, old * MARGIN_PERCENT / 100):
            kind = "larger" if new > old else "smaller"
            return Change(kind, name, size(old), size(new), percent_of(old, new))
    return None
