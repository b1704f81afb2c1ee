"""How far a run is: a bar that moves with the time that cases are expected to take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from harness.report.formats import rough_duration


class CaseProgress:
    """Tells of the case at work, of records and of finished cases."""

    def __init__(self, progress: Progress, expected_s: Sequence[float]) -> None:
        self._progress = progress
        self._expected_s = expected_s
        self._finished = 0
        self._spent_s = 0.0
        self._started_s = progress.get_time()
        self._task: TaskID = progress.add_task(
            "starting", total=sum(expected_s), cases=self._cases, left=self._left(0.0)
        )

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
        completed_s = sum(self._expected_s[: self._finished]) + self._spent_s
        left = self._left(completed_s)
        self._progress.update(self._task, completed=completed_s, cases=self._cases, left=left)

    def _left(self, completed_s: float) -> str:
        """The expected time of what is to come, at the pace of what is done.

        Not rich's: its pace is of the last half minute, and a case may take longer.
        """
        if self._finished == len(self._expected_s):
            return ""
        elapsed_s = self._progress.get_time() - self._started_s
        pace = elapsed_s / completed_s if completed_s else 1.0
        return f"about {rough_duration(pace * (sum(self._expected_s) - completed_s))} left"


@contextmanager
def case_progress(console: Console, expected_s: Sequence[float]) -> Iterator[CaseProgress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[cases]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield CaseProgress(progress, expected_s)
