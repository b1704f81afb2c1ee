"""What would run, how much it would need, and what would not fit or not end in time."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.case_columns import columns_apart, shared_line
from harness.cases import BREAKING_POINT, Case
from harness.prediction.fit import Prediction, is_unavailable
from harness.prediction.run import answer_s, predict_cases
from harness.report.formats import mebibytes, rough_duration

_TOO_LARGE = "will not fit"
_TOO_LONG = "longer than --timeout_s"
_REFERENCE_TOO_LONG = "its reference is longer than --timeout_s"
_WARNINGS = (_TOO_LARGE, _TOO_LONG, _REFERENCE_TOO_LONG)
_UNAVAILABLE = "unavailable"
_WIDEST = 1000


def show_dry_run(console: Console, cases: Sequence[Case]) -> int:
    """Prints a line for each case; returns the exit status."""
    predictions = predict_cases(cases)
    notes = [
        _note(case, prediction) for case, (prediction, _) in zip(cases, predictions, strict=True)
    ]
    table = _table(cases, predictions, notes)
    # A name that is cut off names nothing: wider than the terminal, if need be.
    needed = console.measure(table, options=console.options.update(width=_WIDEST)).maximum
    wide = Console(file=console.file, highlight=False, width=max(console.width, needed))
    wide.print(shared_line(cases))
    wide.print(table)
    for variant, reason in {c.variant: c.not_on_cpu for c in cases if is_unavailable(c)}.items():
        console.print(f"{variant}: {reason}", soft_wrap=True)
    noun = "case" if len(cases) == 1 else "cases"
    parts = [
        f"{len(cases)} {noun}, {rough_duration(sum(seconds for _, seconds in predictions))} in all",
        *(f"{count} {warning}" for warning in _WARNINGS if (count := notes.count(warning))),
        "nothing was run",
    ]
    console.print("; ".join(parts))
    return 0


def _table(
    cases: Sequence[Case], predictions: Sequence[tuple[Prediction, float]], notes: Sequence[str]
) -> Table:
    columns = columns_apart(cases) | {
        "peak MiB": [
            _peak(case, prediction)
            for case, (prediction, _) in zip(cases, predictions, strict=True)
        ],
        "of MiB": [mebibytes(prediction.limit_bytes) for prediction, _ in predictions],
        "about": [rough_duration(seconds) for _, seconds in predictions],
        "": list(notes),
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        is_words = name in ("framework", "variant", "dtype", "")
        table.add_column(name, justify="left" if is_words else "right", no_wrap=True)
    for *cells, note in zip(*columns.values(), strict=True):
        style = "yellow" if note in _WARNINGS else ""
        table.add_row(*(Text(cell, style=style) for cell in (*cells, note)))
    return table


def _peak(case: Case, prediction: Prediction) -> str:
    if case.mode == BREAKING_POINT:
        return ""  # it has as many as it tries sizes
    return "?" if prediction.peak_bytes is None else mebibytes(prediction.peak_bytes)


def _note(case: Case, prediction: Prediction) -> str:
    if is_unavailable(case):
        return _UNAVAILABLE
    searches = case.mode == BREAKING_POINT
    if searches and prediction.peak_bytes is None:
        return "nothing is known of its memory"
    if searches and prediction.largest_fitting is None:
        return _TOO_LARGE
    if not searches and not prediction.fits:
        return _TOO_LARGE
    if answer_s(case) > case.measurement.timeout_s:
        return _REFERENCE_TOO_LONG
    if not prediction.in_time:
        return _TOO_LONG
    return f"will end at about {prediction.largest_fitting:,}" if searches else ""
