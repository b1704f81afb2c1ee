"""The list under a table: the cases that did not end well, and why."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.formats import error
from harness.report.measures import Record, figure
from harness.report.naming import listed, status_words
from harness.report.rows import Row
from harness.report.section import Failure

_ERRORS = ("loss_error", "grad_hidden_error", "grad_weight_error")


def failures(rows: Sequence[Row]) -> list[Failure]:
    """Every row whose status is not ok; what differs only in its vocabulary is one entry.

    A peer that is not installed is unavailable at each size: one line says so as well as
    five would.
    """
    found: dict[tuple[str, str, str, str], set[int]] = {}
    for row in rows:
        if row.status == "ok":
            continue
        key = (row.status, row.record["framework"], row.label, _reason(row.record))
        found.setdefault(key, set()).add(row.record["vocab_size"])
    return [
        Failure(status, _subject(framework, label, vocabularies, status), reason)
        for (status, framework, label, reason), vocabularies in found.items()
    ]


def _subject(framework: str, label: str, vocabularies: set[int], status: str) -> str:
    sizes = ", ".join(str(size) for size in sorted(vocabularies))
    return f"{framework} {label} at V = {sizes}: {status_words(status)}"


def _reason(record: Record) -> str:
    raised = record.get("error")
    if raised:
        lines = (raised.get("message") or "").strip().splitlines()
        return ": ".join(part for part in (raised.get("type"), *lines[:1]) if part)
    return listed(_beyond_tolerance(record))


def _beyond_tolerance(record: Record) -> list[str]:
    tolerance = figure(record, "numerics", "tolerance") or {}
    beyond = []
    for name in _ERRORS:
        value, limit = figure(record, "numerics", name), tolerance.get(name)
        # Not `value > limit`, which a NaN error would pass.
        if value is not None and limit is not None and not value <= limit:
            beyond.append(f"{name} {error(value)} above {error(limit)}")
    return beyond
