"""The values of every table's rows, worked out once so that no two tables can disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.measures import (
    Baselines,
    Conditions,
    Record,
    Spread,
    conditions,
    forward_time,
    settle,
    step_ratio,
    step_time,
    workspace_ratio,
)
from harness.report.naming import label_order, variant_labels, variant_order


@dataclass(frozen=True)
class Row:
    """One record's figures, with what they need from the other records of its group."""

    record: Record
    label: str
    conditions: Conditions
    step: Spread | None
    forward: Spread | None
    over_standard: float | None
    over_floor: float | None
    workspace_of_standard: float | None

    @property
    def status(self) -> str:
        return str(self.record["status"])

    @property
    def shape(self) -> tuple[object, ...]:
        """Rows with equal shapes stand together; also the sort key of the groups.

        Neither the run nor the device is part of it: they are what is compared.
        """
        held = self.conditions
        return (
            (held.tokens, held.hidden_dim, self.record["vocab_size"], held.batch_size),
            (held.dtype, held.ignored_fraction, held.memory_limit_gib or 0.0),
        )


def make_rows(records: Sequence[Record]) -> list[Row]:
    """Rows by shape, then framework, then variant: standard, chunked, others, yardsticks.

    The same case of several runs stays in the order of the runs.
    """
    settled = settle(records)
    labels = variant_labels(settled)
    baselines = Baselines(settled)
    rows = [_row(record, label, baselines) for record, label in zip(settled, labels, strict=True)]
    return sorted(
        rows,
        key=lambda row: (
            row.shape,
            row.record["framework"],
            variant_order(row.record["variant"]),
            label_order(row.label),
        ),
    )


def _row(record: Record, label: str, baselines: Baselines) -> Row:
    return Row(
        record=record,
        label=label,
        conditions=conditions(record),
        step=step_time(record),
        forward=forward_time(record),
        over_standard=step_ratio(baselines, record, "standard"),
        over_floor=step_ratio(baselines, record, "floor"),
        workspace_of_standard=workspace_ratio(baselines, record),
    )
