"""What the harness adds to a case: less than 5 s beyond what the case itself takes."""

from __future__ import annotations

import resource

import pytest

from tests.harness.conftest import TINY, RunHarness

ADDED_S = 5.0


@pytest.mark.slow("times processes: once, by hand and in CI, is enough")
def test_a_case_costs_little_beyond_its_steps(run_harness: RunHarness) -> None:
    """In processor time, which others who load the machine hardly touch.

    Of the whole command, its reference and its report included. The steps of so small a shape
    are not worth taking out.
    """
    before = _processor_s()
    done = run_harness(*TINY, "--variants=standard,chunked")
    assert done.status == 0, done.stderr
    assert (_processor_s() - before) / len(done.records) < ADDED_S


def _processor_s() -> float:
    """Of all processes that this one has started and waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
