"""The backward runs as often as it is asked, with any cotangent."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conformance.problem import CHUNKED, make_problem

CHUNKS = {"vocab_chunk": 100, "token_chunk": 7}


def differentiate(framework, problem):
    arrays = problem.hidden, problem.weight, problem.labels
    return framework.differentiate(
        CHUNKED, *arrays, bias=problem.bias, **problem.options, **CHUNKS
    )[1]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_second_backward_gives_the_same_bits(framework, reduction, dtype):
    problem = make_problem(dtype=dtype, reduction=reduction)
    pull = differentiate(framework, problem)
    first = [grad.copy() for grad in pull(problem.cotangent)]
    pull(3 * problem.cotangent)  # must leave nothing behind
    second = pull(problem.cotangent)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_gradients_are_linear_in_the_cotangent(framework, dtype):
    """By powers of two exactly, 0 included: whatever is scaled on the way is put back."""
    problem = make_problem(dtype=dtype, reduction="none")
    pull = differentiate(framework, problem)
    once = [grad.astype(np.float64) for grad in pull(problem.cotangent)]
    for factor in (0.0, -1.0, 2.0**-20, 2.0**20):
        for grad, scaled in zip(once, pull(factor * problem.cotangent), strict=True):
            np.testing.assert_array_equal(scaled.astype(np.float64), factor * grad)
