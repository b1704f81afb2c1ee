"""Sums over many chunks in 16 bits: kept in float32 and rounded once.

The limits here have no floor: the standard loss rounds its gradients to 16 bits as
well, so its error is never zero. Sums kept in 16 bits would miss them by far.
"""

from __future__ import annotations

import numpy as np
import pytest

from harness.conformance.hard_problems import growing_sums, small_probabilities
from harness.conformance.problem import make_problem, solve
from tests.conformance.evaluation import CHUNKED, STANDARD, assert_fair, errors, evaluate

FLOAT32_EPSILON = np.finfo(np.float32).eps


@pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_over_many_chunks(framework, dtype, strategy):
    """128 chunks of tokens, 32 of the vocabulary; the plan would always take one_pass."""
    problem = growing_sums(dtype)
    answer = solve(problem)
    standard_errors = errors(evaluate(framework, STANDARD, problem), answer)
    result = evaluate(framework, CHUNKED, problem, strategy=strategy)
    for name, error in errors(result, answer).items():
        limit = 4 * FLOAT32_EPSILON if name == "loss" else standard_errors[name]
        assert error <= 2 * limit, name


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_loss_is_summed_in_float32(framework, reduction):
    """As exactly as its terms allow: bfloat16 would be off by one part in 256."""
    problem = make_problem(dtype="bfloat16", num_tokens=512, hidden_dim=16, vocab_size=64)
    terms, total = (
        framework.call(
            CHUNKED,
            problem.hidden,
            problem.weight,
            problem.labels,
            reduction=reduction_,
            vocab_chunk=2,
            token_chunk=4,
        )
        for reduction_ in ("none", reduction)
    )
    divisor = (problem.labels != -100).sum() if reduction == "mean" else 1
    expected = terms.astype(np.float64).sum() / divisor
    # One rounding for each of the log2(512) levels of a pairwise sum.
    np.testing.assert_allclose(total, expected, rtol=9 * FLOAT32_EPSILON)


def test_float16_mean_over_many_tokens(framework):
    """A probability times 1/N is below float16's range unless it is scaled up first.

    The sums of such gradients over the tokens are not, so float16 is no excuse for
    losing them, though the standard loss of PyTorch does.
    """
    problem = small_probabilities()
    result = errors(assert_fair(framework, problem), solve(problem))
    assert result["grad_weight"] <= np.finfo(np.float16).eps
