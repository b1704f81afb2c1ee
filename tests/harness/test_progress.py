"""The bar moves with the time that cases are expected to take, and says how much is left."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

import pytest
from rich.console import Console
from rich.progress import Progress, Task

from harness.progress import CaseProgress, case_progress


class Clock:
    """A bar whose time passes when a test says so."""

    def __init__(self, expected_s: Sequence[float]) -> None:
        self.now_s = 100.0
        console = Console(file=io.StringIO(), width=200)
        self.progress = Progress(console=console, get_time=lambda: self.now_s)
        self.cases = CaseProgress(self.progress, expected_s)

    @property
    def task(self) -> Task:
        (task,) = self.progress.tasks
        return task


def test_bar_moves_by_what_each_case_was_expected_to_take() -> None:
    bar = Clock([2.0, 30.0, 8.0])
    assert (bar.task.total, bar.task.completed, bar.task.fields["cases"]) == (40.0, 0.0, "0/3")
    for completed, cases in ((2.0, "1/3"), (32.0, "2/3"), (40.0, "3/3")):
        bar.cases.start("a case")
        bar.cases.record("its line", 0.1)
        bar.cases.finish()
        assert (bar.task.completed, bar.task.fields["cases"]) == (completed, cases)


def test_records_of_a_search_move_the_bar_within_the_share_of_their_case() -> None:
    bar = Clock([10.0, 5.0])
    completed = []
    for spent_s in (4.0, 4.0, 4.0, 4.0):
        bar.cases.record("a size", spent_s)
        completed.append(bar.task.completed)
    assert completed == [4.0, 8.0, 10.0, 10.0]
    bar.cases.finish()
    bar.cases.record("of the next", 1.0)
    assert bar.task.completed == 11.0, "what the first took too long is not the second's"


@pytest.mark.parametrize("seed", range(5))
def test_bar_never_runs_ahead_nor_back_and_ends_at_the_total(seed: int) -> None:
    draw = random.Random(seed)
    expected_s = [draw.choice([0.5, 3.0, 200.0]) for _ in range(12)]
    bar = Clock(expected_s)
    before = 0.0
    for index in range(12):
        for _ in range(draw.randrange(4)):
            bar.cases.record("a size", draw.uniform(0.0, 200.0))
            assert before <= bar.task.completed <= sum(expected_s[: index + 1])
            before = bar.task.completed
        bar.cases.finish()
        assert bar.task.completed == pytest.approx(sum(expected_s[: index + 1]))
        before = bar.task.completed
    assert bar.task.finished
    assert bar.task.fields["left"] == ""


def test_time_left_is_what_is_expected_at_the_pace_so_far() -> None:
    bar = Clock([60.0, 240.0, 300.0])
    assert bar.task.fields["left"] == "about 10 min left", "before any case"
    for after_s, left in (
        (120.0, "about 18 min left"),  # half as fast as expected
        (180.0, "about 5 min left"),  # and now as fast
    ):
        bar.now_s += after_s
        bar.cases.record("its line", after_s)
        bar.cases.finish()
        assert bar.task.fields["left"] == left


def test_a_case_done_before_it_took_any_time_does_not_divide_by_it() -> None:
    bar = Clock([10.0, 50.0])
    bar.cases.record("refused", 0.0)
    assert bar.task.fields["left"] == "about 60 s left"


def test_what_is_on_the_terminal() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    with case_progress(console, [5.0, 55.0]) as progress:
        progress.start("torch standard V=8,192")
        progress.record("ok torch standard", 4.0)
        progress.finish()
    assert isinstance(console.file, io.StringIO)
    said = console.file.getvalue()
    assert "ok torch standard" in said
    assert "torch standard V=8,192" in said
    assert "1/2" in said
    assert " left" in said


def test_nothing_left_to_run() -> None:
    with case_progress(Console(file=io.StringIO()), []):
        pass
