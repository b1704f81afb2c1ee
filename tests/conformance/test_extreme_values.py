"""Large logits, masked classes, and values that are not finite."""

from __future__ import annotations

import numpy as np
import pytest

from harness.conformance.problem import make_problem
from tests.conformance.evaluation import CHUNKED, STANDARD, assert_fair, evaluate

CHUNKS = {"vocab_chunk": 100, "token_chunk": 7}  # of V=507 and N=15: both ragged


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("hidden_scale", [30.0, 1000.0])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_large_activations(framework, dtype, hidden_scale, reduction):
    problem = make_problem(dtype=dtype, hidden_scale=hidden_scale, reduction=reduction)
    assert_fair(framework, problem, **CHUNKS)


MASKED = {
    "padding at the end": slice(400, None),
    "more than the first chunk": slice(0, 150),
    "exactly the first chunk": slice(0, 100),
    "exactly the last, ragged chunk": slice(500, None),
    "every other class": slice(0, None, 2),
    "all classes but one": slice(0, 506),
}


@pytest.mark.parametrize("masked", MASKED.values(), ids=MASKED)
def test_masked_classes(framework, masked):
    """A bias of -inf takes classes out: the answer is finite, with no gradient for them."""
    problem = make_problem(reduction="none")
    problem.bias[masked] = -np.inf
    allowed = np.flatnonzero(np.isfinite(problem.bias))
    counted = problem.labels != -100
    problem.labels[counted] = allowed[problem.labels[counted] % len(allowed)]
    result = assert_fair(framework, problem, **CHUNKS)
    assert all(np.isfinite(array).all() for array in result)
    assert not result.grad_weight[masked].any()
    assert not result.grad_bias[masked].any()


def test_label_of_a_masked_class_costs_infinity(framework):
    problem = make_problem(reduction="none", ignored_fraction=0.0)
    problem.bias[problem.labels[3]] = -np.inf
    loss = evaluate(framework, CHUNKED, problem, **CHUNKS).loss
    is_masked = problem.labels == problem.labels[3]
    assert np.isposinf(loss[is_masked]).all()
    assert np.isfinite(loss[~is_masked]).all()


@pytest.mark.parametrize("function", [CHUNKED, STANDARD])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_hidden_that_is_not_finite_reaches_the_loss(framework, value, function):
    """Of its own token, and of no other."""
    problem = make_problem(reduction="none", ignored_fraction=0.0)
    problem.hidden[4, 5] = value
    chunks = CHUNKS if function == CHUNKED else {}
    result = evaluate(framework, function, problem, **chunks)
    assert np.flatnonzero(~np.isfinite(result.loss)).tolist() == [4]
    assert np.isnan(result.grad_hidden[4]).any()
    assert np.isfinite(np.delete(result.grad_hidden, 4, axis=0)).all()
    assert np.isnan(result.grad_weight).any()


@pytest.mark.parametrize("row", [0, 99, 100, 499, 506])
def test_weight_that_is_not_a_number_reaches_the_loss(framework, row):
    """In whichever chunk the class stands: at a chunk's edge, or in the ragged last one."""
    problem = make_problem(ignored_fraction=0.0)
    problem.weight[row, 0] = np.nan
    result = evaluate(framework, CHUNKED, problem, **CHUNKS)
    assert np.isnan(result.loss)
    assert np.isnan(result.grad_hidden).all()
