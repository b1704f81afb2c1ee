"""Large logits, masked classes, and values that are not finite."""

from __future__ import annotations

import numpy as np
import pytest

from harness.conformance.problem import make_problem
from loss_spec.reference import relative_error
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


@pytest.mark.parametrize("exponent", [-80, 126, 127])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_cotangents_at_the_ends_of_float32(framework, dtype, exponent):
    """The power of two that is taken out of them must itself be a number."""
    problem = make_problem(dtype=dtype, reduction="sum")
    for array in (problem.hidden, problem.weight):
        array *= 2.0**-10  # so that the gradients are in range
    unit, far = (
        evaluate(framework, CHUNKED, problem.but(cotangent=np.float64(cotangent)), **CHUNKS)
        for cotangent in (1.0, 2.0**exponent)
    )
    for name in ("grad_hidden", "grad_weight"):
        expected = getattr(unit, name).astype(np.float64) * 2.0**exponent
        error = relative_error(getattr(far, name), expected)
        assert error < 2e-6


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


@pytest.mark.parametrize("rows", [(0,), (99, 100), (506, 250), (300, 301, 506)])
def test_prediction_of_logits_that_are_not_numbers(framework, rows):
    """The first NaN, whatever the chunks: as the argmax of the whole row has it."""
    problem = make_problem(ignored_fraction=0.0, return_aux=True)
    problem.weight[list(rows), 0] = np.nan
    arrays = problem.hidden, problem.weight, problem.labels
    for chunks in (CHUNKS, {"vocab_chunk": 507}):
        _, aux = framework.call(CHUNKED, *arrays, return_aux=True, **chunks)
        assert set(np.asarray(aux.prediction).tolist()) == {min(rows)}


@pytest.mark.parametrize("row", [0, 99, 100, 499, 506])
def test_weight_that_is_not_a_number_reaches_the_loss(framework, row):
    """In whichever chunk the class stands: at a chunk's edge, or in the ragged last one."""
    problem = make_problem(ignored_fraction=0.0)
    problem.weight[row, 0] = np.nan
    result = evaluate(framework, CHUNKED, problem, **CHUNKS)
    assert np.isnan(result.loss)
    assert np.isnan(result.grad_hidden).all()
