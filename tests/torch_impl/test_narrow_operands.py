"""Operands that stay in 16 bits, as on a GPU, on any CPU: most would widen them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.conformance.hard_problems import growing_sums, small_probabilities
from harness.conformance.problem import solve
from tests.conformance.evaluation import CHUNKED, STANDARD, Framework, errors, evaluate

pytestmark = [
    pytest.mark.cpu_only("on a GPU they always do"),
    pytest.mark.parametrize("strategy", ["two_pass", "one_pass"]),
]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_is(dtype: torch.dtype, device: torch.device) -> torch.dtype:
        return dtype

    monkeypatch.setattr("torch_impl.tile.operand_dtype", as_it_is)


def test_float16_mean_over_many_tokens(strategy):
    """Gradients of logits that are below float16's range unless they are scaled up first."""
    problem = small_probabilities()
    result = evaluate(Framework("torch"), CHUNKED, problem, strategy=strategy)
    assert errors(result, solve(problem))["grad_weight"] <= np.finfo(np.float16).eps


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_over_many_chunks(dtype, strategy):
    """Each product is rounded once more here; their sum over 128 chunks is not."""
    framework, problem = Framework("torch"), growing_sums(dtype)
    answer = solve(problem)
    standard_errors = errors(evaluate(framework, STANDARD, problem), answer)
    result = evaluate(framework, CHUNKED, problem, strategy=strategy)
    for name, error in errors(result, answer).items():
        limit = 4 * np.finfo(np.float32).eps if name == "loss" else standard_errors[name]
        assert error <= 2 * limit, name
