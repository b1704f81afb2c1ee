"""Our losses on a problem, held to the error rule."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import numpy as np

from harness.conformance.problem import Answer, Problem, solve
from loss_spec.reference import FLOAT64_ERROR, fair_error, relative_error

CHUNKED = "linear_cross_entropy"
STANDARD = "standard_linear_cross_entropy"


class Framework:
    """The losses of one framework by name, called with NumPy arrays."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.adapter = importlib.import_module(f"harness.conformance.{name}_adapter")
        self.implementation = importlib.import_module(f"{name}_impl")

    def call(self, function: str, *arrays: Any, **options: Any) -> Any:
        return self.adapter.call(getattr(self.implementation, function), *arrays, **options)

    def differentiate(self, function: str, problem: Problem, **options: Any) -> tuple[Any, Any]:
        """The loss, and `pull(cotangent)`: the gradients that are wanted, by name."""
        target = getattr(self.implementation, function)
        loss, _, pull = self.adapter.differentiate(target, problem, **options)
        return loss, pull


class Result(NamedTuple):
    """None where a gradient is not wanted."""

    loss: np.ndarray
    grad_hidden: np.ndarray | None = None
    grad_weight: np.ndarray | None = None
    grad_bias: np.ndarray | None = None


def evaluate(framework: Framework, function: str, problem: Problem, **options: Any) -> Result:
    """Loss and gradients; the chunked loss gets the problem's chunks unless told others."""
    if function == CHUNKED:
        options = problem.chunks | options
    loss, pull = framework.differentiate(function, problem, **options)
    grads = pull(problem.cotangent)
    return Result(loss, **{f"grad_{name}": grad for name, grad in grads.items()})


def errors(result: Result, answer: Answer) -> dict[str, float]:
    """Relative L2 error of the loss and of each gradient that is wanted."""
    return {
        name: relative_error(getattr(result, name), exact) for name, exact in answer.exact.items()
    }


def assert_fair(framework: Framework, problem: Problem, **options: Any) -> Result:
    """The chunked loss is within the rule, by the standard of its own framework; returns it.

    That is tighter than what `python -m harness.conformance` asks of everyone where the
    framework's standard is more exact than a NumPy one that rounds its logits.
    """
    answer = solve(problem)
    result = evaluate(framework, CHUNKED, problem, **options)
    assert_dtypes_and_shapes(result, problem)
    standard_errors = errors(evaluate(framework, STANDARD, problem), answer)
    if problem.dtype == np.float64:
        standard_errors = dict.fromkeys(standard_errors, FLOAT64_ERROR / 2)
    for name, error in errors(result, answer).items():
        limit = fair_error(standard_errors[name], getattr(result, name).dtype)
        assert error <= limit, f"{name} {error:.3g} > {limit:.3g}"  # NaN fails too
    return result


def assert_dtypes_and_shapes(result: Result, problem: Problem) -> None:
    """The loss is float32 or wider; a gradient looks like its input."""
    is_per_token = problem.options["reduction"] == "none"
    assert result.loss.shape == (problem.labels.shape if is_per_token else ())
    assert result.loss.dtype == (np.float64 if problem.dtype == np.float64 else np.float32)
    for name in ("hidden", "weight", "bias"):
        grad, array = getattr(result, f"grad_{name}"), getattr(problem, name)
        if name not in problem.needs:
            assert grad is None
        else:
            assert (grad.shape, grad.dtype) == (array.shape, array.dtype)
