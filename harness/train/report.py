"""`train.md`, and the tables that end a run on the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from harness.report.environment import environment_facts
from harness.report.formats import MISSING, error, mebibytes, milliseconds, ratio
from harness.report.markdown import section_parts
from harness.report.naming import status_words
from harness.report.rich_table import rich_table
from harness.report.section import Failure, Section, TableText
from harness.train.agreement import Record, comparisons, run_title
from harness.train.pictures import draw_pictures
from harness.train.runs import OK

Memory = dict[str, Any] | None

READING = (
    "Step times are medians without the first step, which compiles. Memory is the peak of a "
    "whole training step, weights and optimizer state (the state) included; the second probe is "
    "the kernel's count of resident memory. x standard: over the standard loss in the same "
    "framework."
)


def runs_table(records: Sequence[Record]) -> TableText:
    """A row for each run: how well it learnt, how fast, and what a step needs."""
    return TableText(
        title="Runs",
        headers=(
            "run", "last loss", "held-out", "step ms", "x standard", "peak MiB", "of standard",
            "state MiB", "2nd probe", "status",
        ),
        numeric=(False, *(True,) * 8, False),
        rows=tuple(_row(record, records) for record in records),
        starts_group=(False,) * len(records),
    )  # fmt: skip


def agreement_table(records: Sequence[Record]) -> TableText:
    """A row for each pair of curves that must lie on each other."""
    found = comparisons(records)
    return TableText(
        title="Relative difference of the training loss",
        headers=("curve", "largest at any step", "allowed", ""),
        numeric=(False, True, True, False),
        rows=tuple(
            (each.title, error(each.largest), error(each.limit), "" if each.holds else "too much")
            for each in found
        ),
        starts_group=(False,) * len(found),
    )


def notes(records: Sequence[Record]) -> tuple[str, ...]:
    """How the tables are read, and what went wrong after a run was complete."""
    died = [record for record in records if record["error"] and record["status"] == OK]
    return (READING, *map(_after_the_run, died))


def tables(records: Sequence[Record]) -> list[Table]:
    return [rich_table(text, text.title) for text in _texts(records)]


def write_report(records: Sequence[Record], directory: Path, command: str) -> Path:
    """Draws the pictures and writes `train.md` into `directory`; returns its path."""
    lead = _sizes(records)
    samples = [_sample(record) for record in records if record["sample"]]
    section = Section(
        title="Training with the logits and without",
        lead=f"One model, one text, one set of first weights: {lead}, float32.",
        tables=tuple(_texts(records)),
        notes=notes(records),
        failures=tuple(
            Failure(record["status"], _title(record), _reason(record))
            for record in records
            if record["error"] and record["status"] != OK
        ),
        plots=tuple(draw_pictures(records, lead, directory)),
    )
    facts = [f"- {name}: {value}" for name, value in environment_facts(records)]
    parts = [
        "# Training runs", f"```\n{command}\n```", *section_parts(section, directory), *samples,
        "## Environment", "\n".join(facts),
    ]  # fmt: skip
    path = directory / "train.md"
    path.write_text("\n\n".join(parts) + "\n")
    return path


def _sizes(records: Sequence[Record]) -> str:
    """E.g. "200 steps of 32 x 128 tokens, V=16,384, width 128, 2 layers"."""
    recipe = next((record["recipe"] for record in records if record["recipe"]), None)
    if recipe is None:
        return "no run that says its sizes"
    return (
        f"{recipe['steps']:,} steps of {recipe['batch_size']} x {recipe['length']} tokens, "
        f"V={recipe['vocab_size']:,}, width {recipe['dim']}, {recipe['layers']} layers"
    )


def _sample(record: Record) -> str:
    words = " ".join(record["sample"].replace("`", "").split())
    return f"**{_title(record)}** writes: `{words}`"


def _after_the_run(record: Record) -> str:
    reason = _reason(record).replace("`", "'")
    return f"{_title(record)}: `{reason}`"


def _reason(record: Record) -> str:
    return f"{record['error']['type']}: {record['error']['message']}"


def _title(record: Record) -> str:
    return run_title(record["framework"], record["loss"])


def _texts(records: Sequence[Record]) -> list[TableText]:
    found = [runs_table(records), agreement_table(records)]
    return [text for text in found if text.rows]


def _row(record: Record, records: Sequence[Record]) -> tuple[str, ...]:
    if record["status"] != OK:
        return (
            _title(record),
            *(MISSING,) * 8,
            status_words(record["status"]),
        )
    standard = next(
        (
            each
            for each in records
            if each["case_id"] == f"{record['framework']} standard" and each["status"] == OK
        ),
        None,
    )
    seconds = _step_s(record)
    return (
        _title(record),
        f"{record['train_loss'][-1]:.4f}",
        f"{record['held_out'][-1][1]:.4f}",
        milliseconds(seconds),
        ratio(seconds / _step_s(standard) if standard else None),
        *_memory_cells(record["memory"], standard["memory"] if standard else None),
        record["status"],
    )


def _memory_cells(memory: Memory, standard: Memory) -> tuple[str, str, str, str]:
    """Peak, peak over that of the standard loss, state, what the second probe saw."""
    if memory is None:
        return (MISSING,) * 4
    peak, others = memory["peak_bytes"], list(memory["peak_bytes_by_probe"].values())[1:]
    return (
        mebibytes(peak),
        ratio(peak / standard["peak_bytes"] if standard else None),
        mebibytes(memory["state_bytes"]),
        ", ".join(map(mebibytes, others)) or MISSING,
    )


def _step_s(record: Record) -> float:
    return statistics.median(record["step_s"][1:] or record["step_s"])
