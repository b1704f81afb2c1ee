"""The breaking points among the records, as the tables and pictures want them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from harness.cases import BREAKING_POINT
from harness.record import OOM
from harness.report.formats import count
from harness.report.measures import (
    Conditions,
    Record,
    conditions,
    is_ok,
    is_probe,
    of_mode,
)
from harness.report.naming import describe, set_apart, status_words, variant_order
from harness.report.series import Series, make_series

AXIS_TITLES = {"vocab_size": "vocabulary size V", "num_tokens": "number of tokens N"}
_SYMBOLS = {"vocab_size": "V", "num_tokens": "N"}


@dataclass(frozen=True, eq=False)
class Limit:
    """Where one variant of one framework breaks."""

    record: Record
    series: Series
    largest_ran: int | None
    smallest_failed: int | None
    """That ran out of memory."""
    tried: int
    """How many sizes."""

    @property
    def tolerance(self) -> float:
        """How far apart its two ends may be."""
        return float(self.record["breaking_point"]["tolerance"])

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing of a limit: not even memory was what stopped it."""
        return self.largest_ran is None and self.smallest_failed is None

    @property
    def how_it_failed(self) -> str:
        """E.g. "out of memory: 664 MiB, as much as [N, V] in float32; the backward pass"."""
        if is_ok(self.record) and self.smallest_failed is None:
            return ""
        # A search that came to its end has met a size that ran out of memory.
        words = status_words(OOM if is_ok(self.record) else self.record["status"])
        failure = self.record["breaking_point"]["failure"] or {}
        lines = (failure.get("message") or "").strip().splitlines()
        reason = failure.get("allocation") or (lines[0] if lines else "")
        return ": ".join(part for part in (words, reason) if part)


@dataclass(frozen=True)
class Search:
    """What the searches of one picture have in common."""

    held: Conditions
    """Without tokens where those are what grows."""
    axis: str
    vocab_size: int | None
    """None where that is what grows."""

    @property
    def symbol(self) -> str:
        return _SYMBOLS[self.axis]

    @property
    def within(self) -> str:
        """What bounded it, in words."""
        limit = self.held.memory_limit_gib
        return "the device's memory" if limit is None else f"{count(limit)} GiB"

    @property
    def described(self) -> str:
        return ", ".join([describe(self.held), *self._vocabulary])

    def set_apart(self, among: Collection[Search]) -> str:
        """Of that what others with this axis do not share, less the limit."""
        alike = [other for other in among if other.axis == self.axis]
        parts = [
            set_apart(replace(self.held, memory_limit_gib=None), [other.held for other in alike]),
            *(self._vocabulary if len({other.vocab_size for other in alike}) > 1 else []),
        ]
        return ", ".join(filter(None, parts))

    @property
    def _vocabulary(self) -> list[str]:
        return [] if self.vocab_size is None else [f"V = {self.vocab_size}"]


def searches(records: Sequence[Record]) -> dict[Search, list[Limit]]:
    """By what they have in common, those of a variant together, standard first."""
    found = [record for record in of_mode(records, BREAKING_POINT) if not is_probe(record)]
    groups: dict[Search, list[Record]] = {}
    for record in found:
        groups.setdefault(_search(record), []).append(record)
    return {
        search: sorted((_limit(record, group) for record in group), key=_place)
        for search, group in groups.items()
    }


def _search(record: Record) -> Search:
    axis, held = record["breaking_point"]["axis"], conditions(record)
    if axis == "vocab_size":
        return Search(held, axis, None)
    return Search(replace(held, batch_size=1, seq_len=0), axis, record["vocab_size"])


def _limit(record: Record, group: Sequence[Record]) -> Limit:
    # Its look is that which the same variant has in a sweep's pictures.
    (series,) = make_series([record], group)
    found = record["breaking_point"]
    out_of_memory = {each["size"] for each in found["tried"] if each["status"] == OOM}
    smallest = found["smallest_failed"]
    return Limit(
        record,
        series,
        found["largest_ran"],
        # Older records have there what failed in another way too, which is no limit.
        smallest if smallest in out_of_memory else None,
        len(found["tried"]),
    )


def _place(limit: Limit) -> tuple[tuple[int, str], str]:
    return variant_order(limit.series.variant), limit.series.framework


def over_standard(limit: Limit, limits: Sequence[Limit]) -> float | None:
    """How many times the size that the standard of the same framework reaches.

    None where either search was cut short: it might have got farther.
    """
    for other in limits:
        if other.series.variant == "standard" and other.series.framework == limit.series.framework:
            if not (is_ok(limit.record) and is_ok(other.record)):
                return None
            if limit.largest_ran is None or not other.largest_ran:
                return None
            return limit.largest_ran / other.largest_ran
    return None
