"""Ignored tokens count nothing: not in the mean, not in any gradient."""

from __future__ import annotations

import pytest

from harness.conformance.problem import make_problem
from tests.conformance.evaluation import CHUNKED, STANDARD, assert_fair, evaluate

CHUNKS = {"vocab_chunk": 100, "token_chunk": 7}
FUNCTIONS = {CHUNKED: CHUNKS, STANDARD: {}}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradient_of_ignored_tokens_is_exactly_zero(framework, reduction, function):
    problem = make_problem(reduction=reduction)
    result = evaluate(framework, function, problem, **FUNCTIONS[function])
    is_ignored = problem.labels == -100
    assert (result.grad_hidden[is_ignored] == 0).all()
    assert result.grad_hidden[~is_ignored].all(axis=1).all()
    if reduction == "none":
        assert (result.loss[is_ignored] == 0).all()


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_all_ignored_gives_zero_and_not_nan(framework, reduction, dtype, function):
    problem = make_problem(dtype=dtype, reduction=reduction, ignored_fraction=1.0)
    result = evaluate(framework, function, problem, **FUNCTIONS[function])
    assert all((array == 0).all() for array in result)


def test_a_whole_chunk_of_ignored_tokens(framework):
    problem = make_problem(reduction="mean", ignored_fraction=0.0)
    problem.labels[:7] = -100
    assert_fair(framework, problem, **CHUNKS)


@pytest.mark.parametrize("ignore_index", [0, 3, 506])
def test_ignore_index_that_is_a_class(framework, ignore_index):
    """Its tokens are ignored; as a column of the softmax it stays."""
    problem = make_problem(reduction="mean", ignored_fraction=0.0)
    problem.labels[::3] = ignore_index
    problem.options["ignore_index"] = ignore_index
    result = assert_fair(framework, problem, **CHUNKS)
    assert (result.grad_hidden[::3] == 0).all()
    assert result.grad_weight[ignore_index].any()


@pytest.mark.parametrize("ignore_index", [-(2**40), 2**40, 2**63, -(2**70)])
def test_ignore_index_that_no_label_can_hold(framework, ignore_index):
    problem = make_problem(ignored_fraction=0.0)
    problem.options["ignore_index"] = ignore_index
    assert_fair(framework, problem, **CHUNKS)
