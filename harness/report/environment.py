"""What the figures were measured on, gathered from all records of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.report.formats import MISSING
from harness.report.measures import Record, is_probe
from harness.report.naming import framework_title, listed, status_words
from harness.report.run import Run
from harness.report.section import TableText

Fact = tuple[str, str]

RUN, STARTED, MEASURED = "run", "started", "measured"
OF_THE_RUN = (RUN, STARTED, MEASURED)
"""The facts that no two runs share, wherever they ran."""


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
        (RUN, _values([record.get("run_id") for record in records])),
        (
            STARTED,
            min((str(r["started_at"]) for r in records if r.get("started_at")), default=""),
        ),
        (MEASURED, case_counts(records)),
        ("CPU", _values([_cpu(each.get("cpu")) for each in environments])),
        ("GPU", _values([each.get("gpu") for each in environments])),
        ("threads", _values([each.get("threads") for each in environments])),
        ("platform", _values([each.get("platform") for each in environments])),
        *((name, _versions(environments, name)) for name in names),
        ("git revision", _values([each.get("git_revision") for each in environments])),
    ]
    return [(name, value) for name, value in facts if value]


def headline(run: Run) -> str:
    """E.g. "JAX 0.10.2 and PyTorch 2.13.0 on Example CPU, 2 cores; 18 cases: 18 ok."."""
    environments = [record.get("environment") or {} for record in run.records]
    frameworks = [
        f"{framework_title(framework)} {_versions(environments, framework)}".strip()
        for framework in sorted({record["framework"] for record in run.records})
    ]
    device = _values([each.get("gpu") for each in environments]) or _values(
        [_cpu(each.get("cpu")) for each in environments]
    )
    name = f"{run.name}: " if run.name else ""
    where = device or "an unknown machine"
    return f"{name}{listed(frameworks)} on {where}; {case_counts(run.records)}."


def environment_table(runs: Sequence[Run]) -> TableText:
    """A row for each fact, a column for each run, so that what differs stands side by side."""
    facts = [dict(environment_facts(run.records)) for run in runs]
    names = dict.fromkeys(name for each in facts for name in each)
    return TableText(
        title="",
        headers=("", *(run.name for run in runs)),
        numeric=(False,) * (len(runs) + 1),
        rows=tuple((name, *(each.get(name, MISSING) for each in facts)) for name in names),
    )


def case_counts(records: Sequence[Record]) -> str:
    """E.g. "18 cases: 17 ok, 1 out of memory"; a size that a search tried is no case."""
    cases = [record for record in records if not is_probe(record)]
    counts = Counter(status_words(record["status"]) for record in cases)
    parts = [f"{count} {words}" for words, count in counts.most_common()]
    noun = "case" if len(cases) == 1 else "cases"
    tried = f" ({len(records) - len(cases)} sizes tried)" if len(cases) < len(records) else ""
    return (f"{len(cases)} {noun}: {', '.join(parts)}" if parts else "none") + tried


def _versions(environments: Sequence[Any], name: str) -> str:
    return _values([(each.get("versions") or {}).get(name) for each in environments])


def _cpu(cpu: Any) -> str | None:
    if not isinstance(cpu, dict):
        return cpu
    cores = cpu.get("cores")
    return ", ".join(
        part for part in (cpu.get("model"), f"{cores} cores" if cores else None) if part
    )


def _values(values: Sequence[Any]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))
