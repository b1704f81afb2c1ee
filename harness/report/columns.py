"""The columns of the tables: how each value of a row is headed and written.

The terminal, Markdown and HTML draw their cells from here and differ in headers only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.report import formats
from harness.report.measures import figure, memory_bytes
from harness.report.naming import status_words
from harness.report.rows import Row


@dataclass(frozen=True)
class Column:
    """How one value of a row is headed and written.

    `table` names the Markdown table that has the column; "case" columns stand in each.
    `short` heads it on a terminal, where an empty one leaves the column out. A column with
    `only_if_varied` is dropped where all rows agree; the line above the table says it then.
    """

    table: str
    title: str
    short: str
    cell: Callable[[Row], str]
    numeric: bool = True
    only_if_varied: bool = False


def _step_cell(row: Row) -> str:
    # The words stand where the eye looks for the result, so that a case that ran out of
    # memory or gave a wrong answer cannot be read as one that merely lacks a figure.
    if row.status == "ok" and row.step is None:
        return formats.MISSING
    time = "" if row.step is None else formats.milliseconds(row.step.median)
    if row.status == "ok":
        return time
    # A wrong answer has a time, but none to be compared with.
    return (
        f"{status_words(row.status)} {time}".strip()
        if row.status == "mismatch"
        else (status_words(row.status))
    )


def _step_spread_cell(row: Row) -> str:
    if row.status != "ok" or row.step is None:
        return formats.MISSING
    return formats.number(row.step.percent)


def _forward_cell(row: Row) -> str:
    return formats.MISSING if row.forward is None else formats.milliseconds(row.forward.median)


def _memory(name: str) -> Callable[[Row], str]:
    return lambda row: formats.mebibytes(memory_bytes(row.record, name))


def _error(name: str) -> Callable[[Row], str]:
    return lambda row: formats.error(figure(row.record, "numerics", name))


def _seconds(name: str) -> Callable[[Row], str]:
    return lambda row: formats.number(figure(row.record, "timing", name))


COLUMNS: tuple[Column, ...] = (
    Column("case", "framework", "frame-\nwork", lambda row: row.record["framework"], numeric=False),
    Column("case", "variant", "variant", lambda row: row.label, numeric=False),
    Column(
        "case",
        "device",
        "device",
        lambda row: row.conditions.device or formats.MISSING,
        numeric=False,
        only_if_varied=True,
    ),
    Column(
        "case",
        "dtype",
        "dtype",
        lambda row: row.conditions.dtype,
        numeric=False,
        only_if_varied=True,
    ),
    Column(
        "case",
        "ignored",
        "ig-\nnored",
        lambda row: f"{row.conditions.ignored_fraction:.0%}",
        only_if_varied=True,
    ),
    Column(
        "case",
        "limit GiB",
        "limit\nGiB",
        lambda row: formats.count(row.conditions.memory_limit_gib),
        only_if_varied=True,
    ),
    Column("case", "tokens N", "N", lambda row: str(row.conditions.tokens), only_if_varied=True),
    Column("case", "D", "D", lambda row: str(row.conditions.hidden_dim), only_if_varied=True),
    Column("case", "V", "V", lambda row: str(row.record["vocab_size"])),
    Column("time", "step ms", "step\nms", _step_cell),
    Column("time", "spread ± %", "±\n%", _step_spread_cell),
    Column("time", "forward ms", "", _forward_cell),
    Column("time", "compile s", "", _seconds("compile_s")),
    Column("time", "first step s", "", _seconds("first_step_s")),
    Column("time", "x standard", "x std", lambda row: formats.ratio(row.over_standard)),
    Column("time", "x floor", "x\nfloor", lambda row: formats.ratio(row.over_floor)),
    Column("memory", "peak MiB", "peak\nMiB", _memory("peak")),
    Column("memory", "beyond inputs MiB", "beyond\ninputs\nMiB", _memory("additional")),
    Column("memory", "workspace MiB", "work-\nspace\nMiB", _memory("workspace")),
    Column(
        "memory",
        "workspace / standard's",
        "of\nstd",
        lambda row: formats.fraction(row.workspace_of_standard),
    ),
    Column("memory", "reserved MiB", "", _memory("reserved")),
    Column("memory", "host RSS MiB", "", _memory("host_rss")),
    Column(
        "memory",
        "probe",
        "",
        lambda row: figure(row.record, "memory", "probe") or formats.MISSING,
        numeric=False,
    ),
    Column("numbers", "loss error", "", _error("loss_error")),
    Column("numbers", "hidden gradient error", "", _error("grad_hidden_error")),
    Column("numbers", "weight gradient error", "dW\nerror", _error("grad_weight_error")),
    Column("case", "status", "", lambda row: status_words(row.status), numeric=False),
)


def shown_columns(rows: Sequence[Row], *, table: str | None = None) -> list[Column]:
    """The columns of one Markdown table, or of the terminal's without `table`."""
    return [
        column
        for column in COLUMNS
        if (column.short if table is None else column.table in ("case", table))
        and not (column.only_if_varied and len({column.cell(row) for row in rows}) <= 1)
    ]
