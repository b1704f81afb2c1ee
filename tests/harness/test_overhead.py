"""What the harness adds to a case: less than 5 s beyond what the case itself takes."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

from tests.harness.conftest import TINY, Finished

ADDED_S = 5.0
TRIES = 3


def test_a_case_costs_little_beyond_its_steps(run_harness: Callable[..., Finished]) -> None:
    """On the clock, which counts waiting, the best of three: others may load the machine.

    In processor time, which they hardly touch, every time: of the whole command, its reference
    and its report included. The steps of so small a shape are not worth taking out.
    """
    on_the_clock = []
    for _ in range(TRIES):
        before = _processor_s()
        done = run_harness(*TINY, "--variants=standard,chunked")
        processor_s = _processor_s() - before
        assert done.status == 0, done.stderr
        assert processor_s / len(done.records) < ADDED_S
        on_the_clock.append(max(record["wall_s"] - _own_s(record) for record in done.records))
        if on_the_clock[-1] < ADDED_S:
            return
    raise AssertionError(f"expected a case that adds less than {ADDED_S:g} s, got {on_the_clock}")


def _own_s(record: dict[str, Any]) -> float:
    """Compilation and the steps that were timed."""
    timing = record["timing"]
    compile_s = timing["compile_s"] or 0.0
    return compile_s + timing["first_step_s"] + sum(timing["step_s"]) + sum(timing["forward_s"])


def _processor_s() -> float:
    """Of all processes that this one has started and waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
