"""What would run, how much it would need, and what would not fit."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.case_columns import columns_apart, shared_line
from harness.cases import BREAKING_POINT, SWEEP, Case, Shape
from harness.predicted_time import reference_s
from harness.prediction import Prediction, is_unavailable, predict_case
from harness.report.formats import mebibytes
from harness.speed import flops_per_s

_TOO_LARGE = "will not fit"
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
    too_large = notes.count(_TOO_LARGE)
    noun = "case" if len(cases) == 1 else "cases"
    parts = [
        f"{len(cases)} {noun}, {in_words(sum(seconds for _, seconds in predictions))} in all",
        *([f"{too_large} {_TOO_LARGE}"] if too_large else []),
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
        "about": [in_words(seconds) for _, seconds in predictions],
        "": list(notes),
    }
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in columns:
        is_words = name in ("framework", "variant", "dtype", "")
        table.add_column(name, justify="left" if is_words else "right", no_wrap=True)
    for *cells, note in zip(*columns.values(), strict=True):
        style = "yellow" if note == _TOO_LARGE else ""
        table.add_row(*(Text(cell, style=style) for cell in (*cells, note)))
    return table


def _peak(case: Case, prediction: Prediction) -> str:
    if case.mode == BREAKING_POINT:
        return ""  # it has as many as it tries sizes
    return "?" if prediction.peak_bytes is None else mebibytes(prediction.peak_bytes)


def predict_cases(cases: Sequence[Case]) -> list[tuple[Prediction, float]]:
    """For each case what it needs, and its seconds with those of the reference of its shape."""
    known: set[Shape] = set()
    found = []
    for case in cases:
        prediction = predict_case(case, flops_per_s(case.measurement.device, case.shape.dtype))
        seconds = prediction.seconds
        needs_answer = case.mode == SWEEP and case.is_loss and not is_unavailable(case)
        if needs_answer and case.shape not in known:
            known.add(case.shape)
            seconds += reference_s(case.shape, flops_per_s("cpu", "float64"))
        found.append((prediction, seconds))
    return found


def in_words(seconds: float) -> str:
    """E.g. "40 s", "3 min", "2.5 h": no more digits than are known."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _note(case: Case, prediction: Prediction) -> str:
    if is_unavailable(case):
        return _UNAVAILABLE
    if case.mode == BREAKING_POINT:
        if prediction.peak_bytes is None:
            return "nothing is known of its memory"
        fitting = prediction.largest_fitting
        return _TOO_LARGE if fitting is None else f"will end at {fitting:,}"
    return "" if prediction.fits else _TOO_LARGE
