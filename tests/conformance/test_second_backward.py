"""The backward runs as often as it is asked, with any cotangent."""

from __future__ import annotations

import numpy as np
import pytest

from harness.conformance.problem import excess, make_problem, solve
from tests.conformance.evaluation import CHUNKED

OPTIONS = {
    "none": {},
    "all": {"label_smoothing": 0.1, "logit_scale": 0.7, "logit_softcap": 5.0, "z_loss": 1e-2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_second_backward_gives_the_same_bits(framework, reduction, dtype, options):
    problem = make_problem(dtype=dtype, reduction=reduction, **options)
    _, pull = framework.differentiate(CHUNKED, problem, **problem.chunks, strategy="two_pass")
    first = {name: grad.copy() for name, grad in pull(problem.cotangent).items()}
    pull(3 * problem.cotangent)  # must leave nothing behind
    second = pull(problem.cotangent)
    for name, grad in first.items():
        np.testing.assert_array_equal(grad, second[name])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_second_backward_of_one_pass(framework, dtype, options):
    """As good as the first. PyTorch hands out its float32 sums once, and then adds up anew."""
    problem = make_problem(dtype=dtype, reduction="mean", **options)
    answer = solve(problem)
    loss, pull = framework.differentiate(CHUNKED, problem, **problem.chunks, strategy="one_pass")
    for factor in (1, 4, 1):
        grads = pull(factor * problem.cotangent)
        found = {f"grad_{name}": (grad / factor).astype(grad.dtype) for name, grad in grads.items()}
        assert not excess({"loss": loss, **found}, answer)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_gradients_are_linear_in_the_cotangent(framework, dtype, options):
    """By powers of two exactly, 0 included: whatever is scaled on the way is put back."""
    problem = make_problem(dtype=dtype, reduction="none", **options)
    _, pull = framework.differentiate(CHUNKED, problem, **problem.chunks)
    once = {name: grad.astype(np.float64) for name, grad in pull(problem.cotangent).items()}
    for factor in (0.0, -1.0, 2.0**-20, 2.0**20):
        for name, scaled in pull(factor * problem.cotangent).items():
            np.testing.assert_array_equal(scaled.astype(np.float64), factor * once[name])
