"""One figure by two probes, and how far apart they are.

What a step needs beyond its inputs is read by every probe that can be had: the first is the
one whose figures the tables show, the others say how far it can be believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.memory import host_rss
from harness.report.formats import MIB
from harness.report.measures import Record, figure, memory_bytes
from harness.report.naming import framework_title

SMALL_PERCENT = 5
SMALL_BYTES = 8 * MIB


@dataclass(frozen=True)
class Apart:
    """How far what another probe read is from what the probe of the tables did."""

    probe: str
    other_probe: str
    difference_bytes: int
    percent: float

    @property
    def is_small(self) -> bool:
        """In percent of a large case, in bytes of a small one."""
        return abs(self.percent) <= SMALL_PERCENT or abs(self.difference_bytes) <= SMALL_BYTES


def apart(record: Record) -> list[Apart]:
    """One for each other probe that read something; none without a first one."""
    (probe, first), *others = _readings(record)
    if not first or first <= 0:
        return []
    return [
        Apart(probe, other_probe, other - first, 100 * (other / first - 1))
        for other_probe, other in others
        if other is not None
    ]


def probes_apart_notes(records: Sequence[Record]) -> list[str]:
    """A sentence for each framework and pair of probes."""
    found: dict[tuple[str, str, str], list[Apart]] = {}
    for record in records:
        for each in apart(record):
            key = record["framework"], each.probe, each.other_probe
            found.setdefault(key, []).append(each)
    return [
        f"Two probes: in {framework_title(framework)} the {other_probe} differs from {probe} by "
        f"{_range([each.difference_bytes / MIB for each in cases])} MiB "
        f"({_range([each.percent for each in cases])} %); {_how_many_small(cases)}."
        for (framework, probe, other_probe), cases in sorted(found.items())
    ]


def _readings(record: Record) -> list[tuple[str, int | None]]:
    """(probe, bytes beyond the inputs), by the probe of the tables first."""
    found = figure(record, "memory", "readings")
    if found:
        return [(each["probe"], each["additional_bytes"]) for each in found]
    # Records older than readings have the two figures by name.
    return [
        (figure(record, "memory", "probe") or "", memory_bytes(record, "additional")),
        (host_rss.PROBE, memory_bytes(record, "host_rss")),
    ]


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):+.1f}", f"{max(values):+.1f}"
    return low if low == high else f"{low} to {high}"


def _how_many_small(cases: Sequence[Apart]) -> str:
    # A single case far off must not stand for all.
    small = sum(each.is_small for each in cases)
    verb = "case is" if len(cases) == 1 else "cases are"
    within = f"within {SMALL_PERCENT} % or {SMALL_BYTES // MIB} MiB"
    return f"{small} of {len(cases)} {verb} {within}"
