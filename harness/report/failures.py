"""The list under a table: the cases that did not end well, and why."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.columns import OVERVIEW, shown_columns
from harness.report.formats import error
from harness.report.measures import Record, figure
from harness.report.naming import listed, status_words
from harness.report.rows import Row
from harness.report.section import Failure

_Kind = tuple[str, str, str, str]
"""Status, framework, label, reason."""

_LONGEST_REASON = 400
_ERRORS = ("loss_error", "grad_hidden_error", "grad_weight_error")


def failures(rows: Sequence[Row]) -> list[Failure]:
    """Every row whose status is not ok; what differs only in its shape is one entry.

    A peer that is not installed is unavailable at each size: one line says so as well as
    five would.
    """
    varied = [column for column in shown_columns(rows, table=OVERVIEW) if column.only_if_varied]
    # First by what else sets the rows apart, then the sets of vocabularies that are the same,
    # so that an entry never names a combination that did not fail.
    sizes: dict[tuple[_Kind, str], list[int]] = {}
    for row in rows:
        if row.status != "ok":
            kind = row.status, row.record["framework"], row.label, _reason(row.record)
            where = ", ".join(f"{column.title} {column.cell(row)}" for column in varied)
            sizes.setdefault((kind, where), []).append(row.record["vocab_size"])
    places: dict[tuple[_Kind, tuple[int, ...]], list[str]] = {}
    for (kind, where), vocabularies in sizes.items():
        places.setdefault((kind, tuple(sorted(set(vocabularies)))), []).append(where)
    return [_failure(kind, vocabularies, each) for (kind, vocabularies), each in places.items()]


def _failure(kind: _Kind, vocabularies: Sequence[int], places: Sequence[str]) -> Failure:
    status, framework, label, reason = kind
    sizes = ", ".join(str(size) for size in vocabularies)
    where = f" ({'; '.join(places)})" if any(places) else ""
    subject = f"{framework} {label} at V = {sizes}{where}: {status_words(status)}"
    return Failure(status, subject, reason)


def _reason(record: Record) -> str:
    raised = record.get("error")
    if raised:
        lines = (raised.get("message") or "").strip().splitlines()
        reason = ": ".join(part for part in (raised.get("type"), *lines[:1]) if part)
        # The records have the whole message.
        cut = len(reason) > _LONGEST_REASON
        return reason[: _LONGEST_REASON - 1] + "\u2026" if cut else reason
    return listed(_beyond_tolerance(record)) or "the record does not say why"


def _beyond_tolerance(record: Record) -> list[str]:
    tolerance = figure(record, "numerics", "tolerance") or {}
    beyond = []
    for name in _ERRORS:
        value, limit = figure(record, "numerics", name), tolerance.get(name)
        # Not `value > limit`, which a NaN error would pass.
        if value is not None and limit is not None and not value <= limit:
            beyond.append(f"{name} {error(value)} above {error(limit)}")
    return beyond
