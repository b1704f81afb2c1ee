"""How far a run is: a bar that moves with the time that cases are expected to take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class CaseProgress:
    """Tells of the case at work, of records and of finished cases."""

    def __init__(self, progress: Progress, expected_s: Sequence[float]) -> None:
        self._progress = progress
        self._expected_s = expected_s
        self._finished = 0
        self._spent_s = 0.0
        total = sum(expected_s)
        self._task: TaskID = progress.add_task("starting", total=total, cases=self._cases)

    def start(self, description: str) -> None:
        self._progress.update(self._task, description=description)

    def record(self, line: str, spent_s: float) -> None:
        """One of the records of the case at work, and how long it took."""
        self._progress.console.print(line, soft_wrap=True)
        self._spent_s = min(self._spent_s + spent_s, self._expected_s[self._finished])
        self._show()

    def finish(self) -> None:
        self._finished += 1
        self._spent_s = 0.0
        self._show()

    @property
    def _cases(self) -> str:
        return f"{self._finished}/{len(self._expected_s)}"

    def _show(self) -> None:
        completed = sum(self._expected_s[: self._finished]) + self._spent_s
        self._progress.update(self._task, completed=completed, cases=self._cases)


@contextmanager
def case_progress(console: Console, expected_s: Sequence[float]) -> Iterator[CaseProgress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[cases]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        yield CaseProgress(progress, expected_s)
