"""Sums over many chunks in 16 bits: kept in float32 and rounded once.

The limits here have no floor: the standard loss rounds its gradients to 16 bits as
well, so its error is never zero. Sums kept in 16 bits would miss them by far.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.conformance.problem import (
    CHUNKED,
    STANDARD,
    assert_fair,
    errors,
    evaluate,
    evaluate_reference,
    make_problem,
)

FLOAT32_EPSILON = np.finfo(np.float32).eps


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_over_many_chunks(framework, dtype):
    """128 chunks of tokens, 32 of the vocabulary."""
    problem = make_problem(
        dtype=dtype, num_tokens=512, hidden_dim=16, vocab_size=64, reduction="sum"
    )
    # All of one sign, so that sums grow: adding to a 16-bit sum then loses the small terms.
    problem = problem.but(hidden=np.abs(problem.hidden))
    reference = evaluate_reference(problem)
    result_errors = errors(
        evaluate(framework, CHUNKED, problem, vocab_chunk=2, token_chunk=4), reference
    )
    standard_errors = errors(evaluate(framework, STANDARD, problem), reference)
    for name, error in result_errors.items():
        limits = standard_errors if name != "loss_error" else {name: 4 * FLOAT32_EPSILON}
        assert error <= 2 * limits[name], name


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

    As in one of 128 accumulated batches: cotangent / N is 2**-18, and most logit
    gradients round to zero. Their sums over the tokens do not, so float16 is no
    excuse for losing them, though the standard loss of PyTorch does.
    """
    problem = make_problem(
        dtype="float16", num_tokens=2048, hidden_dim=16, vocab_size=256, ignored_fraction=0.0
    )
    problem = problem.but(
        hidden=np.abs(problem.hidden),  # so that the sums grow
        labels=problem.labels % 16,  # so that the other rows have nothing but probabilities
        cotangent=np.asarray(2048 * 2.0**-18),
    )
    result = assert_fair(framework, problem, vocab_chunk=100, token_chunk=300)
    result_errors = errors(result, evaluate_reference(problem))
    assert result_errors["grad_weight_error"] <= np.finfo(np.float16).eps
    assert result_errors["grad_bias_error"] <= np.finfo(np.float16).eps
