"""Runs the cases one after the other, shows how far it is, and closes with the report."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from rich.console import Console

from harness import record
from harness.breaking_point import search
from harness.case_lines import label, line
from harness.cases import BREAKING_POINT, SWEEP, Case, Shape
from harness.environment import describe_host
from harness.interrupts import terminated_is_interrupted
from harness.prediction.run import predict_cases
from harness.progress import case_progress
from harness.scheduler import run_case, run_reference
from harness.store import NotWrittenError, RunStore

FAILED = 1
INTERRUPTED = 130
TRACES = "traces"

Show = Callable[[list[dict[str, Any]], RunStore, Console], None]


def show_report(results: list[dict[str, Any]], store: RunStore, console: Console) -> None:
    """How a run closes: the report on disk, the table on the terminal."""
    from harness.report import write_report  # matplotlib is slow to load: not before it is wanted
    from harness.report.tables import closing_tables

    report = write_report(results, store.directory, store.command)
    for table in closing_tables(results):
        console.print(table)
    console.print(f"records   {store.directory / 'records.jsonl'}", soft_wrap=True)
    console.print(f"summary   {store.directory / 'summary.md'}", soft_wrap=True)
    console.print(f"report    {report}", soft_wrap=True)


def run_sweep(
    cases: Sequence[Case], store: RunStore, console: Console, show: Show = show_report
) -> int:
    """Runs what has no record yet, shows what came of it; returns the exit status.

    After an interrupt the report shows what was measured, and `--resume` goes on.
    """
    done = {result["case_id"] for result in store.records()}
    left = [case for case in cases if case.case_id not in done]
    stopped = None
    try:
        with terminated_is_interrupted():
            _run_cases(left, store, console)
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    except NotWrittenError as error:
        stopped = FAILED
        console.print(str(error), markup=False, soft_wrap=True)
        console.print("Then repeat the command with --resume.")

    results = store.records()
    try:
        store.restore()
        if results:
            show(results, store, console)
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    except OSError as error:  # the records are not lost with it
        stopped = stopped or FAILED
        message = f"no report: {error}; repeat the command with --resume once it can be written"
        console.print(message, markup=False, soft_wrap=True)

    if stopped == INTERRUPTED:
        missing = len({case.case_id for case in cases} - {each["case_id"] for each in results})
        console.print(f"interrupted with {missing} cases to go: repeat the command with --resume")
    if stopped is not None:
        return stopped
    return 0 if all(result["status"] in record.EXPECTED for result in results) else FAILED


def _run_cases(cases: Sequence[Case], store: RunStore, console: Console) -> None:
    host = describe_host()
    expected_s = [seconds for _, seconds in predict_cases(cases)]
    with case_progress(console, expected_s) as progress, TemporaryDirectory() as scratch:
        references: dict[Shape, Path | str] = {}

        def measure(case: Case) -> dict[str, Any]:
            progress.start(label(case))
            reference = _reference(case, references, scratch)
            path = reference if isinstance(reference, Path) else None
            result = run_case(case, store.run_id, host, path, store.directory / TRACES)
            if isinstance(reference, str) and result["status"] == record.OK:
                # What was measured is kept, but nobody knows whether it is right.
                result["status"] = record.ERROR
                result["error"] = {"type": "NoReference", "message": reference}
            return result

        for case in cases:
            for result in _records(case, measure, store):
                store.append(result)
                progress.record(line(case, result), result["wall_s"] or 0.0)
            progress.finish()


def _records(
    case: Case, measure: Callable[[Case], dict[str, Any]], store: RunStore
) -> Iterator[dict[str, Any]]:
    """One record, or all that a search for the breaking point tries, and then its own."""
    if case.mode == BREAKING_POINT:
        known = {result["case_id"]: result for result in store.records()}
        yield from search(case, known, measure, store.run_id)
    else:
        yield measure(case)


def _reference(case: Case, references: dict[Shape, Path | str], scratch: str) -> Path | str | None:
    """Where the reference of the case's shape is, worked out when it is first wanted.

    A string says why there is none; None is for a case that needs none. Only one is kept:
    the gradients of a large shape in float64 are large files.
    """
    if not case.is_loss or case.mode != SWEEP:
        return None
    if case.shape not in references:
        for directory in references.values():
            if isinstance(directory, Path):
                shutil.rmtree(directory)
        references.clear()
        try:
            directory = Path(mkdtemp(dir=scratch))
            measurement = case.measurement
            run_reference(case.shape, measurement.device, directory, measurement.timeout_s)
            references[case.shape] = directory
        except (RuntimeError, OSError) as error:
            references[case.shape] = str(error)
    return references[case.shape]
