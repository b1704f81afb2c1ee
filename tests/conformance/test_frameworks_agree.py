"""JAX against PyTorch on the same arrays: no further apart than both may be from float64."""

from __future__ import annotations

import pytest

from tests.conformance.problem import CHUNKED, errors, evaluate, fair_limits, make_problem


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_losses_and_gradients_agree(both_frameworks, dtype, reduction):
    problem = make_problem(dtype=dtype, reduction=reduction)
    chunks = {"vocab_chunk": 100, "token_chunk": 7}
    jax_result, torch_result = (evaluate(f, CHUNKED, problem, **chunks) for f in both_frameworks)
    jax_limits, torch_limits = (fair_limits(f, problem) for f in both_frameworks)
    for name, distance in errors(jax_result, torch_result).items():
        assert distance <= jax_limits[name] + torch_limits[name], name
