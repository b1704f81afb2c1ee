"""How a comparison is printed, on a terminal as in the log of a CI."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.compare.change import KINDS, Change, Verdict
from harness.compare.environments import Difference
from harness.compare.matching import Matched
from harness.report.formats import MISSING, ratio

_ALWAYS_COUNTED = ("slower", "larger")


def show_environments(console: Console, found: Sequence[Difference]) -> None:
    for each in found:
        line = f"{each.name}: {each.old or MISSING} -> {each.new or MISSING}"
        console.print(Text(line), soft_wrap=True)
    if deciding := [each.name for each in found if each.decides_times]:
        warning = f"warning: not the same {', '.join(deciding)}: differences in time mean little"
        console.print(Text(warning, style="yellow"), soft_wrap=True)


def show_machine(console: Console, matched: Matched) -> None:
    if matched.machine_ratio is not None:
        drift = f"{ratio(matched.machine_ratio)} x the old run's, which is the machine's own drift"
        console.print(Text(f"floor: {drift}"), soft_wrap=True)
    elif any(pair.new.get("timing") for pair in matched.pairs):
        console.print("no floor in both runs: a slower machine looks like slower code")


def show_verdicts(console: Console, verdicts: Sequence[Verdict], matched: Matched) -> None:
    """What changed, what could not be judged, and the summary, which ends the log."""
    changes = [(each.case_id, change) for each in verdicts for change in each.changes]
    if changes:
        console.print(_table(changes))
    _show_not_judged(console, verdicts)
    for run, names in (("old", matched.only_old), ("new", matched.only_new)):
        _show_names(console, f"in the {run} run only", names)
    console.print(Text(summary(verdicts, len(matched.missing))), soft_wrap=True)


def summary(verdicts: Sequence[Verdict], missing: int) -> str:
    """E.g. "12 cases compared: 1 slower, 0 larger, 11 the same within the noise"."""
    counts = Counter(kind for each in verdicts for kind in {c.kind for c in each.changes})
    parts = [f"{counts[kind]} {kind}" for kind in KINDS if counts[kind] or kind in _ALWAYS_COUNTED]
    unchanged = [each for each in verdicts if not each.changes]
    in_part = sum(bool(each.not_judged) for each in unchanged)
    parts.append(f"{len(unchanged) - in_part} the same within the noise")
    if in_part:
        parts.append(f"{in_part} not judged or in part only")
    if missing:
        parts.append(f"{missing} missing")
    cases = "case" if len(verdicts) == 1 else "cases"
    return f"{len(verdicts)} {cases} compared: {', '.join(parts)}"


def _table(changes: Sequence[tuple[str, Change]]) -> Table:
    """Regressions first, then improvements, each kind in the order of the cases."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "figure", "old", "new", "change", "x floor"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("old", "new") else "left")
    table.add_column("case", overflow="fold")  # last, where a long name disturbs nothing
    for case_id, change in sorted(changes, key=lambda each: KINDS.index(each[1].kind)):
        style = "red" if change.is_regression else "green"
        table.add_row(*(Text(cell) for cell in _cells(change)), Text(case_id), style=style)
    return table


def _cells(change: Change) -> tuple[str, ...]:
    percent = MISSING if change.percent is None else f"{change.percent:+.1f} %"
    over_floor = " -> ".join(map(ratio, change.over_floor)) if change.over_floor else MISSING
    return change.kind, change.figure, change.old, change.new, percent, over_floor


def _show_not_judged(console: Console, verdicts: Sequence[Verdict]) -> None:
    names: dict[str, list[str]] = {}
    for verdict in verdicts:
        for each in verdict.not_judged:
            names.setdefault(each.reason, []).append(verdict.case_id)
    for reason, case_ids in names.items():
        _show_names(console, f"not judged, {reason}", case_ids)


def _show_names(console: Console, title: str, names: Sequence[str]) -> None:
    if names:
        console.print(Text("\n  ".join([f"{title}:", *names])), soft_wrap=True)
