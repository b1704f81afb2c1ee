"""The records as a table: how exact each loss is, and what a step allocates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.report.formats import error, mebibytes, times
from harness.report.section import TableText

READING = (
    "Ours / the model's own. Errors are relative L2, against the same model in float64; the worst "
    "gradient is that of the parameter with the largest. Memory is what a step allocates beyond "
    "the model: at its worst moment (gradients included), and the largest single allocation."
)

_HEADERS = (
    "model", "head", "loss error", "worst gradient", "in the rule", "peak MiB", "less",
    "largest MiB",
)  # fmt: skip


def table(records: Sequence[dict[str, Any]]) -> TableText:
    return TableText(
        title="",
        headers=_HEADERS,
        numeric=(False, False, True, True, False, True, True, True),
        rows=tuple(map(_row, records)),
        starts_group=(False,) * len(records),
    )


def _row(record: dict[str, Any]) -> tuple[str, ...]:
    if record["error"]:
        return record["model"], f"failed: {record['error']['message']}", *("",) * 6
    memory = record["memory"]
    peaks, largest = (
        {name: each[f"{what}_bytes"] for name, each in memory.items()}
        for what in ("peak", "largest")
    )
    return (
        record["model"],
        record["head"],
        _both(record["loss_error"], error),
        _both(record["worst_gradient_error"], error),
        ", ".join(record["beyond_the_rule"]) or "yes",
        _both(peaks, mebibytes),
        times(peaks["standard"] / peaks["chunked"]),
        _both(largest, mebibytes),
    )


def _both(of: dict[str, float], text: Callable[[float], str]) -> str:
    return f"{text(of['chunked'])} / {text(of['standard'])}"
