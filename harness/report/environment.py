"""What the figures were measured on, gathered from all records of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.report.measures import Record
from harness.report.naming import status_words

Fact = tuple[str, str]


def environment_facts(records: Sequence[Record]) -> list[Fact]:
    """Name and value of each known fact.

    Each worker reports the versions of its own framework, so versions are joined; values
    that differ between workers are all shown, as they would explain figures that differ.
    """
    environments = [record.get("environment") or {} for record in records]
    names = list(
        dict.fromkeys(name for each in environments for name in each.get("versions") or {})
    )
    facts = [
        ("run", _values([record.get("run_id") for record in records])),
        (
            "started",
            min((str(r["started_at"]) for r in records if r.get("started_at")), default=""),
        ),
        ("cases", case_counts(records)),
        ("CPU", _values([_cpu(each.get("cpu")) for each in environments])),
        ("GPU", _values([each.get("gpu") for each in environments])),
        ("threads", _values([each.get("threads") for each in environments])),
        *(
            (name, _values([(each.get("versions") or {}).get(name) for each in environments]))
            for name in names
        ),
        ("git revision", _values([each.get("git_revision") for each in environments])),
    ]
    return [(name, value) for name, value in facts if value]


def case_counts(records: Sequence[Record]) -> str:
    """E.g. "18: 17 ok, 1 out of memory"."""
    counts = Counter(status_words(record["status"]) for record in records)
    parts = [f"{count} {words}" for words, count in counts.most_common()]
    return f"{len(records)}: {', '.join(parts)}" if parts else "none"


def _cpu(cpu: Any) -> str | None:
    if not isinstance(cpu, dict):
        return cpu
    cores = cpu.get("cores")
    return ", ".join(
        part for part in (cpu.get("model"), f"{cores} cores" if cores else None) if part
    )


def _values(values: Sequence[Any]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))
