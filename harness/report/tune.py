"""Writes `tune.md`, and the tables that a tuning run prints: the frontier, the plan's choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from harness.report.environment import environment_facts
from harness.report.formats import MISSING, mebibytes, milliseconds, number, ratio
from harness.report.frontier import Point, Tuning, Yardstick, tunings
from harness.report.markdown import markdown_table
from harness.report.measures import FLOOR, STREAM, Record, settle
from harness.report.naming import describe, framework_title, probe_note, status_words
from harness.report.roofline import Ceilings

Column = tuple[str, Callable[[Tuning, Point], str]]

TITLE = "LM-head loss: time against workspace"
FRONTIER_NOTE = "No other tiling measured is both as lean and as fast as one of these."
CHOICES_NOTE = (
    "x fastest: step time over that of the fastest tiling measured that needs no more (for a "
    "budget: that keeps the budget). x leanest: workspace over that of the leanest tiling "
    "measured that is as fast."
)
READING_NOTE = (
    "Times are medians; ± is the farthest sample's distance from the median. x standard and "
    "x floor: over the median of all samples of the full-logits loss and of the three bare "
    "matmuls in the same run."
)
WHY_NOTE = (
    "matmuls %: of the step, the time of its matmuls at the rate of the floor. rest B/logit: the "
    "bytes for each of the N x V logits that would go by in the rest of it at the rate of the "
    "stream; none where the step took less than its matmuls would at the floor's."
)


def _step(tuning: Tuning, point: Point) -> str:
    if point.record["status"] != "ok":
        return status_words(point.record["status"])
    return MISSING if point.step is None else milliseconds(point.step.median)


def _over_fastest(tuning: Tuning, point: Point) -> str:
    if not point.is_measured:
        return MISSING
    fastest = tuning.fastest_within(max(point.budget_bytes or 0.0, point.place[0]))
    return ratio(point.place[1] / fastest.place[1] if fastest else None)


def _over_leanest(tuning: Tuning, point: Point) -> str:
    if not point.is_measured:
        return MISSING
    leanest = tuning.leanest_as_fast(point.place[1])
    return ratio(point.place[0] / leanest.place[0] if leanest and leanest.place[0] else None)


def _matmuls_percent(tuning: Tuning, point: Point) -> str:
    split = tuning.split(point)
    return MISSING if split is None else number(100 * split.matmuls_share)


def _rest_per_logit(tuning: Tuning, point: Point) -> str:
    split = tuning.split(point)
    return MISSING if split is None else number(split.rest_bytes_per_logit)


_CHOICE: Column = ("the plan's choice", lambda tuning, point: point.choice)
_TILE: tuple[Column, ...] = (
    ("strategy", lambda tuning, point: point.strategy or MISSING),
    ("token_chunk", lambda tuning, point: _count(point.token_chunk)),
    ("vocab_chunk", lambda tuning, point: _count(point.vocab_chunk)),
)
_TIME: tuple[Column, ...] = (
    ("step ms", _step),
    ("± %", lambda tuning, point: number(point.step.percent) if point.step else MISSING),
    ("x standard", lambda tuning, point: ratio(tuning.over(point, tuning.standard))),
    ("x floor", lambda tuning, point: ratio(tuning.over(point, tuning.floor))),
)
_MEMORY: tuple[Column, ...] = (
    ("workspace MiB", lambda tuning, point: mebibytes(point.workspace_bytes)),
    ("predicted MiB", lambda tuning, point: mebibytes(point.predicted_bytes)),
    ("measured / predicted", lambda tuning, point: ratio(point.measured_over_predicted)),
)
# Why one point is faster than another.
_WHY: tuple[Column, ...] = (("matmuls %", _matmuls_percent), ("rest B/logit", _rest_per_logit))
CHOICE_COLUMNS: tuple[Column, ...] = (
    _CHOICE,
    *_TILE,
    *_TIME,
    ("x fastest", _over_fastest),
    ("x leanest", _over_leanest),
    *_MEMORY,
)
_TEXTS = ("the plan's choice", "strategy")
_SHORT = {
    "the plan's choice": "plan's\nchoice",
    "token_chunk": "token\nchunk",
    "vocab_chunk": "vocab\nchunk",
    "step ms": "step\nms",
    "± %": "±\n%",
    "x standard": "x std",
    "x floor": "x\nfloor",
    "x fastest": "x\nfast-\nest",
    "x leanest": "x\nlean-\nest",
    "matmuls %": "mat-\nmuls\n%",
    "rest B/logit": "rest\nB/\nlogit",
    "workspace MiB": "work-\nspace\nMiB",
    "predicted MiB": "pre-\ndicted\nMiB",
    "measured / predicted": "meas.\n/pre-\ndicted",
}


def write_tune(records: Sequence[Record], directory: Path, command: str) -> Path:
    """Draws the frontiers, writes `tune.md` beside them and returns its path."""
    from harness.report.frontier_plot import draw_frontiers  # matplotlib is slow to load

    settled = settle(records)
    found = tunings(settled)
    plots = draw_frontiers(found, directory)
    parts = [
        f"# {TITLE}",
        f"```\n{command}\n```",
        "## Environment",
        "\n".join(f"- {name}: {value}" for name, value in environment_facts(settled)),
    ]
    for tuning in found:
        parts += _section(tuning)
        if tuning.key in plots:
            name = plots[tuning.key].relative_to(directory).as_posix()
            parts.append(f"![{_heading(tuning)}]({name})")
        parts += [
            f"### Everything measured\n\n{READING_NOTE}",
            _markdown(tuning, tuning.points, point_columns(tuning)),
        ]
        parts += _failures(tuning)
    path = directory / "tune.md"
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return path


def frontier_tables(records: Sequence[Record]) -> list[Table]:
    """For the terminal: of each framework the frontier, then the plan's choices."""
    tables = []
    for tuning in tunings(records):
        heading = f"{_heading(tuning)}: the frontier"
        columns, why = point_columns(tuning), "" if tuning.ceilings is None else WHY_NOTE
        tables.append(_terminal(tuning, heading, tuning.frontier, columns, why))
        notes = "\n".join([CHOICES_NOTE, READING_NOTE, *_yardstick_lines(tuning)])
        tables.append(
            _terminal(tuning, "The plan's choices", tuning.choices, CHOICE_COLUMNS, notes)
        )
    return tables


def point_columns(tuning: Tuning) -> tuple[Column, ...]:
    """Those of a run without the yardsticks for it do not say why."""
    why = () if tuning.ceilings is None else _WHY
    return (*_TILE, *_TIME, *why, *_MEMORY, _CHOICE)


def _section(tuning: Tuning) -> list[str]:
    why = "" if tuning.ceilings is None else f" {WHY_NOTE}"
    return [
        f"## {_heading(tuning)}",
        "\n".join(f"- {line}" for line in _yardstick_lines(tuning)),
        f"### The frontier\n\n{FRONTIER_NOTE}{why}",
        _markdown(tuning, tuning.frontier, point_columns(tuning)),
        f"### The plan's choices\n\n{CHOICES_NOTE}",
        _markdown(tuning, tuning.choices, CHOICE_COLUMNS),
    ]


def _heading(tuning: Tuning) -> str:
    key = tuning.key
    return f"{framework_title(key.framework)}, {describe(key.conditions)}, V = {key.vocab_size}"


def _yardstick_lines(tuning: Tuning) -> list[str]:
    rates = _rates(tuning.ceilings)
    lines = [
        _yardstick_line(each, rates.get(each.variant, ""))
        for each in (tuning.standard, tuning.floor, tuning.stream)
        if each
    ]
    if note := probe_note(tuning.records):
        lines.append(f"memory: {note}")
    return lines


def _rates(ceilings: Ceilings | None) -> dict[str, str]:
    if ceilings is None:
        return {}
    return {
        FLOOR: f", {number(ceilings.flops_per_s / 1e12)} TFLOP/s",
        STREAM: f", {number(ceilings.bytes_per_s / 1e9)} GB/s",
    }


def _yardstick_line(yardstick: Yardstick, rate: str) -> str:
    line = f"{yardstick.variant}: {milliseconds(yardstick.step.median)} ms{rate}"
    if yardstick.workspace_bytes is not None:
        line += f", {mebibytes(yardstick.workspace_bytes)} MiB of workspace"
    if yardstick.drift_percent is not None:
        line += f"; at the end {yardstick.drift_percent:+.1f} % of the time at the start"
    return line


def _failures(tuning: Tuning) -> list[str]:
    lines = []
    for record in tuning.records:
        if record["status"] != "ok":
            message = (record.get("error") or {}).get("message") or ""
            first = (message.strip().splitlines() or [""])[0].replace("`", "'")
            reason = f" (`{first}`)" if first else ""
            lines.append(f"- {record['case_id']}: {status_words(record['status'])}{reason}")
    return ["### Cases without a result to count", "\n".join(lines)] if lines else []


def _cells(
    tuning: Tuning, points: Sequence[Point], columns: Sequence[Column]
) -> list[tuple[str, ...]]:
    return [tuple(cell(tuning, point) for _, cell in columns) for point in points]


def _markdown(tuning: Tuning, points: Sequence[Point], columns: Sequence[Column]) -> str:
    if not points:
        return "Nothing was measured."
    headers = tuple(title for title, _ in columns)
    numeric = tuple(title not in _TEXTS for title in headers)
    return markdown_table(headers, numeric, _cells(tuning, points, columns))


def _terminal(
    tuning: Tuning, title: str, points: Sequence[Point], columns: Sequence[Column], notes: str
) -> Table:
    table = Table(
        title=Text(title, style="bold"),
        title_justify="left",
        caption=Text(notes, style="not italic") if notes else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for name, _ in columns:
        is_text = name in _TEXTS
        short = _SHORT.get(name, name)
        table.add_column(short, justify="left" if is_text else "right", no_wrap=True)
    for cells in _cells(tuning, points, columns):
        table.add_row(*map(Text, cells))
    return table


def _count(value: int | None) -> str:
    return MISSING if value is None else str(value)
