"""The matrix of case against implementation: on the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from harness.conformance.cases import CASES
from harness.conformance.checks import RAISES, RIGHT, UNAVAILABLE, UNSUPPORTED, WRONG

Record = dict[str, Any]

RULE = (
    "right: the relative L2 error of the loss and of every gradient, against float64, is at most "
    "twice that of a full-logits loss computed in the same dtype, plus one unit in the last "
    "place of the dtype that the figure is returned in and 4 units of float32. That loss is "
    "NumPy's: sums in float32; logits, their gradients and the results rounded to the dtype; a "
    "sum or mean of losses at least as far off as independent errors of its tokens make it. With "
    "large float32 logits it is the worst of 16 orders of the features. For float64 inputs the "
    "limit is 1e-12. A label that is no class is right as an error or NaN; a derivative of another "
    "kind is right within 1e-6 of central differences, or as an error. A prediction is right if no "
    "class has a larger logit, but for rounding. "
    "wrong: the worst figure and its error. raises: an exception, or the process died. "
    "unsupported: no such option. unavailable: cannot run here."
)

_STYLES = {RIGHT: "green", WRONG: "bold red", RAISES: "red", UNSUPPORTED: "bright_black"}


def tables(records: Sequence[Record]) -> Iterator[Table]:
    """One table a framework of which anything runs here, for the terminal."""
    for framework, columns in _frameworks(records):
        table = Table(title=framework, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("case", overflow="fold")
        for variant in columns:
            table.add_column(variant.replace("_", " "), overflow="fold")
        for name in CASES:
            table.add_row(escape(name), *(_styled(columns[variant][name]) for variant in columns))
        table.add_section()
        table.add_row("right, of those supported", *(_score(cells) for cells in columns.values()))
        yield table


def markdown(records: Sequence[Record]) -> str:
    """The same with what is behind every cell that is not right."""
    parts = [_where(records), RULE]
    for framework, columns in _frameworks(records):
        lines = [_line(["case", *columns]), _line(["---"] * (len(columns) + 1))]
        for name in CASES:
            lines.append(_line([name, *(_text(cells[name]) for cells in columns.values())]))
        scores = [f"**{_score(cells)}**" for cells in columns.values()]
        lines.append(_line(["**right, of those supported**", *scores]))
        parts += [f"## {framework}", "\n".join(lines)]
    if lines := missing(records):
        parts += ["## Not here", "\n".join(lines)]
    parts += ["## Details", "\n".join(_details(records)), "## Known mistakes", _known()]
    return "\n\n".join(parts) + "\n"


def missing(records: Sequence[Record]) -> list[str]:
    """What cannot run here, and why: one line for all cases with the same words."""
    lines = (
        f"- {record['framework']} {record['variant']}: {record['detail']}"
        for record in records
        if record["status"] == UNAVAILABLE
    )
    return list(dict.fromkeys(lines))


def _where(records: Sequence[Record]) -> str:
    """The device that the losses ran on, and the versions of all that took part."""
    environment = records[0]["environment"]
    versions = (f"{name} {number}" for name, number in environment["versions"].items())
    return ", ".join([f"On {environment['gpu'] or 'a CPU'}", *versions])


def _details(records: Sequence[Record]) -> Iterator[str]:
    """What is behind the cells, one line for all cases with the same words."""
    cases: dict[tuple[str, str], list[str]] = {}
    for record in records:
        if record["status"] in (WRONG, RAISES):
            who = f"{record['framework']} {record['variant']} {record['status']}"
            cases.setdefault((who, record["detail"]), []).append(record["case"])
    for (who, detail), names in cases.items():
        yield f"- {who}: {detail} ({'; '.join(names)})"


def _known() -> str:
    return "\n".join(f"- {case.name}: {case.after}" for case in CASES.values() if case.after)


def _frameworks(records: Sequence[Record]) -> Iterator[tuple[str, dict[str, dict[str, Record]]]]:
    """Each with its columns, less those that have none."""
    for framework in dict.fromkeys(record["framework"] for record in records):
        if columns := _columns(records, framework):
            yield framework, columns


def _columns(records: Sequence[Record], framework: str) -> dict[str, dict[str, Record]]:
    """The records of each variant by case; without the variants that cannot run here."""
    columns: dict[str, dict[str, Record]] = {}
    for record in records:
        if record["framework"] == framework:
            columns.setdefault(record["variant"], {})[record["case"]] = record
    return {
        variant: cells
        for variant, cells in columns.items()
        if len(cells) == len(CASES)
        and any(cell["status"] in (RIGHT, WRONG, RAISES) for cell in cells.values())
    }


def _text(record: Record) -> str:
    if record["status"] != WRONG:
        return str(record["status"])
    return f"**wrong** {record['detail']}".replace("|", "\\|")


def _styled(record: Record) -> str:
    style = _STYLES.get(record["status"], "bright_black")
    word = record["status"] if record["status"] != WRONG else f"wrong {record['detail']}"
    return f"[{style}]{word}[/{style}]"


def _score(cells: dict[str, Record]) -> str:
    statuses = [record["status"] for record in cells.values()]
    right = statuses.count(RIGHT)
    return f"{right} of {right + statuses.count(WRONG) + statuses.count(RAISES)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
