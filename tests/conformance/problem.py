"""One call of the loss, in NumPy, and what the float64 reference says about it."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import numpy as np

from loss_spec.inputs import make_inputs, numpy_dtype
from loss_spec.reference import (
    LossAndGradients,
    error_limits,
    reference_linear_cross_entropy,
    relative_error,
)

CHUNKED = "linear_cross_entropy"
STANDARD = "standard_linear_cross_entropy"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """Arrays, the cotangent of the loss, and the options that both losses take."""

    hidden: np.ndarray
    weight: np.ndarray
    labels: np.ndarray
    bias: np.ndarray | None
    cotangent: np.ndarray
    options: dict[str, Any]

    @property
    def dtype(self) -> np.dtype:
        return self.hidden.dtype

    def but(self, **changes: Any) -> Problem:
        return dataclasses.replace(self, **changes)


def make_problem(
    *,
    dtype: str = "float32",
    num_tokens: int = 15,
    hidden_dim: int = 123,
    vocab_size: int = 507,
    vocab_axis: int = 0,
    has_bias: bool = True,
    reduction: str = "mean",
    ignored_fraction: float = 0.4,
    hidden_scale: float = 1.0,
    seed: int = 0,
) -> Problem:
    """A seeded problem; the cotangent is never 1, and for "none" is of both signs."""
    hidden, weight, labels = make_inputs(
        seed=seed,
        num_tokens=num_tokens,
        hidden_dim=hidden_dim,
        vocab_size=vocab_size,
        dtype=dtype,
        ignored_fraction=ignored_fraction,
    )
    generator = np.random.default_rng(seed + 1)
    bias = generator.standard_normal(vocab_size).astype(numpy_dtype(dtype)) if has_bias else None
    cotangents = {
        "mean": np.asarray(96.0),  # what a loss scaler does
        "sum": np.asarray(-0.75),
        "none": generator.standard_normal(num_tokens),
    }
    return Problem(
        hidden=(hidden.astype(np.float64) * hidden_scale).astype(hidden.dtype),
        weight=np.ascontiguousarray(weight.T) if vocab_axis == 1 else weight,
        labels=labels,
        bias=bias,
        cotangent=cotangents[reduction],
        options={"vocab_axis": vocab_axis, "reduction": reduction, "ignore_index": -100},
    )


def evaluate(
    framework: ModuleType, function: str, problem: Problem, **options: Any
) -> LossAndGradients:
    """Loss and gradients of one function of one framework."""
    loss, pull = framework.differentiate(
        function,
        problem.hidden,
        problem.weight,
        problem.labels,
        bias=problem.bias,
        **problem.options,
        **options,
    )
    return LossAndGradients(loss, *pull(problem.cotangent))


def evaluate_reference(problem: Problem) -> LossAndGradients:
    """The same from the reference, in float64."""
    token_shape, hidden_dim = problem.labels.shape, problem.hidden.shape[-1]
    result = reference_linear_cross_entropy(
        problem.hidden.reshape(-1, hidden_dim),
        problem.weight,
        # Wide enough for ignore_index, whatever dtype the labels have.
        problem.labels.reshape(-1).astype(np.int64),
        bias=problem.bias,
        cotangent=problem.cotangent.reshape(-1) if problem.cotangent.ndim else problem.cotangent,
        **problem.options,
    )
    is_per_token = problem.options["reduction"] == "none"
    return result._replace(
        loss=result.loss.reshape(token_shape) if is_per_token else result.loss,
        grad_hidden=result.grad_hidden.reshape(problem.hidden.shape),
    )


def errors(result: LossAndGradients, reference: LossAndGradients) -> dict[str, float]:
    """Relative L2 error of the loss and of each gradient that there is."""
    return {
        f"{name}_error": relative_error(value, expected)
        for name, value, expected in zip(result._fields, result, reference, strict=True)
        if expected is not None
    }


def fair_limits(framework: ModuleType, problem: Problem) -> dict[str, float]:
    """The largest errors allowed: from those of the framework's own standard loss."""
    standard = evaluate(framework, STANDARD, problem)
    return error_limits(errors(standard, evaluate_reference(problem)), problem.dtype)


def assert_fair(framework: ModuleType, problem: Problem, **chunks: Any) -> LossAndGradients:
    """The chunked loss and all gradients have errors within the limits; returns them."""
    result = evaluate(framework, CHUNKED, problem, **chunks)
    assert_dtypes_and_shapes(result, problem)
    limits = fair_limits(framework, problem)
    for name, error in errors(result, evaluate_reference(problem)).items():
        assert error <= limits[name], f"{name} {error:.3g} > {limits[name]:.3g}"  # NaN fails too
    return result


def assert_dtypes_and_shapes(result: LossAndGradients, problem: Problem) -> None:
    """The loss is float32 or wider; a gradient looks like its input."""
    is_per_token = problem.options["reduction"] == "none"
    assert result.loss.shape == (problem.labels.shape if is_per_token else ())
    assert result.loss.dtype == (np.float64 if problem.dtype == np.float64 else np.float32)
    inputs = (problem.hidden, problem.weight, problem.bias)
    for grad, array in zip(result[1:], inputs, strict=True):
        if array is None:
            assert grad is None
        else:
            assert (grad.shape, grad.dtype) == (array.shape, array.dtype)
