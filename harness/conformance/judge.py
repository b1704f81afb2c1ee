"""One implementation and one case: what it takes, then what it makes of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from harness.conformance.cases import ConformanceCase
from harness.conformance.checks import CHECKS, RAISES, UNAVAILABLE, UNSUPPORTED, Verdict
from harness.conformance.problem import Answer, Problem
from harness.targets import UnsupportedError, in_one_line
from harness.workload import UnavailableError
from loss_spec import LossOptions

_DEFAULTS = LossOptions()


def judge(
    case: ConformanceCase,
    problem: Problem,
    answer: Answer | None,
    adapter: Any,
    target: Callable[..., Any],
) -> Verdict:
    """The verdict; whatever the implementation raises is part of it."""
    try:
        return CHECKS[case.check](adapter, target, accepted(problem, target), answer)
    except UnsupportedError as error:
        return Verdict(UNSUPPORTED, str(error))
    except UnavailableError as error:
        return Verdict(UNAVAILABLE, str(error))
    except Exception as error:
        return Verdict(RAISES, in_one_line(error))


def accepted(problem: Problem, target: Callable[..., Any]) -> Problem:
    """The problem as the target can be called with it.

    Raises `UnsupportedError` naming an array or an option that the target does not take
    and that is not the default.
    """
    takes = inspect.signature(target).parameters
    for name in problem.arrays:
        if name not in takes:
            raise UnsupportedError(name)
    for name, value in problem.options.items():
        if name not in takes and value != getattr(_DEFAULTS, name):
            raise UnsupportedError(name)
    return problem.but(
        options={name: value for name, value in problem.options.items() if name in takes},
        chunks={name: value for name, value in problem.chunks.items() if name in takes},
    )
