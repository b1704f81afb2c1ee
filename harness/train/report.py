"""`train.md`, and the tables that end a run on the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

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
        notes=(READING,),
        failures=tuple(
            Failure(
                record["status"],
                run_title(record["framework"], record["loss"]),
                f"{record['error']['type']}: {record['error']['message']}",
            )
            for record in records
            if record["error"]
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
    return f"**{run_title(record['framework'], record['loss'])}** writes: `{words}`"


def _texts(records: Sequence[Record]) -> list[TableText]:
    found = [runs_table(records), agreement_table(records)]
    return [text for text in found if text.rows]


def _row(record: Record, records: Sequence[Record]) -> tuple[str, ...]:
    if record["status"] != OK:
        return (
            run_title(record["framework"], record["loss"]),
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
    memory, seconds = record["memory"], _step_s(record)
    return (
        run_title(record["framework"], record["loss"]),
        f"{record['train_loss'][-1]:.4f}",
        f"{record['held_out'][-1][1]:.4f}",
        milliseconds(seconds),
        ratio(seconds / _step_s(standard) if standard else None),
        mebibytes(memory["peak_bytes"]),
        ratio(memory["peak_bytes"] / standard["memory"]["peak_bytes"] if standard else None),
        mebibytes(memory["state_bytes"]),
        ", ".join(mebibytes(peak) for peak in list(memory["peak_bytes_by_probe"].values())[1:])
        or MISSING,
        record["status"],
    )


def _step_s(record: Record) -> float:
    return statistics.median(record["step_s"][1:] or record["step_s"])
