"""The columns of the tables: how each value of a row is headed and written.

The terminal, Markdown and HTML draw their cells from here and differ in headers only. The
overview holds what a reader compares first; the detail tables hold the rest, by theme.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.record import MISMATCH, OK
from harness.report import formats
from harness.report.measures import error_over_tolerance, figure, memory_bytes
from harness.report.naming import status_words
from harness.report.readings import apart
from harness.report.rows import Row

OVERVIEW = "overview"
TIME = "time"
MEMORY = "memory"
NUMBERS = "numbers"
_EVERY = (OVERVIEW, TIME, MEMORY, NUMBERS)


@dataclass(frozen=True)
class Column:
    """How one value of a row is headed and written.

    `tables` are those of the page that have it. `short` heads it on a terminal, where an
    empty one leaves the column out. A column with `only_if_varied` is dropped where all rows
    agree; the line above the table says it then.
    """

    tables: tuple[str, ...]
    title: str
    short: str
    cell: Callable[[Row], str]
    numeric: bool = True
    only_if_varied: bool = False


def _step_cell(row: Row) -> str:
    # The words stand where the eye looks for the result, so that a case that ran out of
    # memory or gave a wrong answer cannot be read as one that merely lacks a figure.
    time = formats.MISSING if row.step is None else formats.milliseconds(row.step.median)
    if row.status == OK:
        return time
    # A wrong answer has a time, but none to be compared with.
    if row.status == MISMATCH and row.step is not None:
        return f"{status_words(row.status)} {time}"
    return status_words(row.status)


def _step_spread_cell(row: Row) -> str:
    if row.status != OK or row.step is None:
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


def _other_probe_cell(row: Row) -> str:
    others = apart(row.record)
    return f"{others[0].percent:+.1f}" if others else formats.MISSING


COLUMNS: tuple[Column, ...] = (
    Column(_EVERY, "framework", "frame-\nwork", lambda row: row.record["framework"], numeric=False),
    Column(_EVERY, "variant", "variant", lambda row: row.label, numeric=False),
    # Here, not last: a narrow window cuts off the right of a table.
    Column(_EVERY, "status", "", lambda row: status_words(row.status), numeric=False),
    Column(
        _EVERY,
        "run",
        "",
        lambda row: row.conditions.run or formats.MISSING,
        numeric=False,
        only_if_varied=True,
    ),
    Column(
        _EVERY,
        "device",
        "device",
        lambda row: row.conditions.device or formats.MISSING,
        numeric=False,
        only_if_varied=True,
    ),
    Column(
        _EVERY,
        "dtype",
        "dtype",
        lambda row: row.conditions.dtype,
        numeric=False,
        only_if_varied=True,
    ),
    Column(
        _EVERY,
        "ignored",
        "ig-\nnored",
        lambda row: f"{row.conditions.ignored_fraction:.0%}",
        only_if_varied=True,
    ),
    Column(
        _EVERY,
        "limit GiB",
        "limit\nGiB",
        lambda row: formats.count(row.conditions.memory_limit_gib),
        only_if_varied=True,
    ),
    Column(_EVERY, "tokens N", "N", lambda row: str(row.conditions.tokens), only_if_varied=True),
    Column(_EVERY, "D", "D", lambda row: str(row.conditions.hidden_dim), only_if_varied=True),
    Column(_EVERY, "V", "V", lambda row: str(row.record["vocab_size"])),
    Column((OVERVIEW, TIME), "step ms", "step\nms", _step_cell),
    Column((OVERVIEW, TIME), "spread ± %", "±\n%", _step_spread_cell),
    Column((TIME,), "forward ms", "", _forward_cell),
    Column((TIME,), "compile s", "", _seconds("compile_s")),
    Column((TIME,), "first step s", "", _seconds("first_step_s")),
    Column((OVERVIEW, TIME), "x standard", "x std", lambda row: formats.ratio(row.over_standard)),
    Column((OVERVIEW, TIME), "x floor", "x\nfloor", lambda row: formats.ratio(row.over_floor)),
    Column((OVERVIEW, MEMORY), "peak MiB", "peak\nMiB", _memory("peak")),
    Column((MEMORY,), "beyond inputs MiB", "beyond\ninputs\nMiB", _memory("additional")),
    Column((OVERVIEW, MEMORY), "workspace MiB", "work-\nspace\nMiB", _memory("workspace")),
    Column(
        (MEMORY,),
        "workspace / standard's",
        "of\nstd",
        lambda row: formats.fraction(row.workspace_of_standard),
    ),
    Column((MEMORY,), "reserved MiB", "", _memory("reserved")),
    Column((MEMORY,), "host RSS MiB", "", _memory("host_rss")),
    Column(
        (MEMORY,),
        "probe",
        "",
        lambda row: figure(row.record, "memory", "probe") or formats.MISSING,
        numeric=False,
    ),
    Column((MEMORY,), "other probe %", "", _other_probe_cell),
    Column(
        (OVERVIEW,),
        "error / tolerance",
        "",
        lambda row: formats.number(error_over_tolerance(row.record)),
    ),
    Column((NUMBERS,), "loss error", "", _error("loss_error")),
    Column((NUMBERS,), "hidden gradient error", "", _error("grad_hidden_error")),
    Column((NUMBERS,), "weight gradient error", "dW\nerror", _error("grad_weight_error")),
)


def shown_columns(rows: Sequence[Row], *, table: str | None = None) -> list[Column]:
    """The columns of one table of the page, or of the terminal's without `table`."""
    return [
        column
        for column in COLUMNS
        if (column.short if table is None else table in column.tables)
        and not (column.only_if_varied and len({column.cell(row) for row in rows}) <= 1)
    ]


def naming_columns(rows: Sequence[Row]) -> list[Column]:
    """Those that say what a row is of: they stand first in every table."""
    shown = shown_columns(rows, table=OVERVIEW)
    return [column for column in shown if column.tables == _EVERY and column.title != "status"]
