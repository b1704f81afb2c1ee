"""The table itself: every mistake that a library is known for is in it."""

from __future__ import annotations

import numpy as np
import pytest

from harness.conformance.cases import CASES
from harness.conformance.checks import CHECKS, aux_mistake
from harness.conformance.judge import accepted
from harness.conformance.problem import excess, make_problem, solve
from harness.targets import UnsupportedError
from loss_spec import LossAux

LIBRARIES = ("tokamax", "PyTorch", "CCE", "Liger", "torchtune", "levanter", "mgmalek", "quack")


def test_every_case_has_a_check():
    assert {case.check for case in CASES.values()} == set(CHECKS)


@pytest.mark.parametrize("library", LIBRARIES)
def test_known_mistakes(library):
    assert any(library in case.after for case in CASES.values())


def test_problems_are_the_same_every_time():
    for name in ("all options, float32", "softcap 1, logits at -300, V=300"):
        one, other = CASES[name].make(), CASES[name].make()
        np.testing.assert_array_equal(one.hidden, other.hidden)
        np.testing.assert_array_equal(one.cotangent, other.cotangent)


def test_logits_far_below_the_cap():
    problem = CASES["softcap 1, logits at -300, V=300"].make()
    logits = problem.hidden @ problem.weight.T
    assert np.median(logits) < -250


def test_shifted_logits_are_exact_in_float32():
    problem = CASES["all logits shifted by 1e4"].make()
    exact = problem.hidden.astype(np.float64) @ problem.weight.T.astype(np.float64) + problem.bias
    np.testing.assert_array_equal(exact, exact.astype(np.float32))
    assert exact.min() > 9000


def test_default_options_need_not_be_taken():
    def loss(hidden, weight, labels, *, reduction="mean"):
        raise NotImplementedError

    problem = make_problem(has_bias=False, reduction="sum", label_smoothing=0.0)
    assert accepted(problem, loss).options == {"reduction": "sum"}
    assert accepted(problem, loss).chunks == {}
    with pytest.raises(UnsupportedError, match=r"^label_smoothing$"):
        accepted(make_problem(has_bias=False, label_smoothing=0.1), loss)
    with pytest.raises(UnsupportedError, match=r"^bias$"):
        accepted(make_problem(), loss)


def test_figure_that_is_not_a_number_breaks_the_rule():
    answer = solve(make_problem(dtype="bfloat16", has_bias=False))
    found = {name: array.astype(np.float32) for name, array in answer.exact.items()}
    assert excess(found, answer) == {}
    found["grad_hidden"][0, 0] = np.nan
    assert list(excess(found, answer)) == ["grad_hidden"]


def test_lucky_mean_is_no_yardstick():
    """Many tokens' rounding errors cancel in their mean, but not in what is fair."""
    fair = [
        solve(
            make_problem(dtype="bfloat16", num_tokens=64, ignored_fraction=0.0, seed=seed)
        ).standard_errors["loss"]
        for seed in range(20)
    ]
    assert min(fair) > np.median(fair) / 3


@pytest.mark.parametrize("name", ["return_aux", "return_aux, all options"])
def test_predictions(name):
    """One class for a token, or two that are as good, and -1 where it is ignored."""
    problem = CASES[name].make()
    answer = solve(problem)
    counted = problem.labels != -100
    assert answer.best.shape == (*problem.labels.shape, 2048)
    assert (answer.best.any(axis=-1) == counted).all()
    assert np.median(answer.best.sum(axis=-1)[counted]) == 1
    assert answer.best.sum(axis=-1).max() <= 2
    right = np.where(counted, answer.best.argmax(axis=-1), -1).astype(np.int32)
    aux = LossAux(None, None, right, np.asarray(counted.sum(), np.int32))
    assert aux_mistake(aux, answer) == ""
    for wrong in (np.where(counted, 0, -1), right.clip(0), right + 2048, np.full_like(right, -1)):
        is_same = (wrong == right).all()
        assert bool(aux_mistake(aux._replace(prediction=wrong), answer)) != is_same
    assert aux_mistake(aux._replace(num_tokens=np.asarray(1)), answer).startswith("num_tokens: 1")
    assert aux_mistake(aux._replace(prediction=right[:-1]), answer).startswith("prediction: shape")
