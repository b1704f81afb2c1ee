"""What a case asks of an implementation, and the verdict.

A check raises nothing of its own: what the implementation raises goes through it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from harness.conformance.problem import Answer, Problem, excess, solve
from harness.targets import UnsupportedError
from harness.workload import UnavailableError
from loss_spec.reference import Array, relative_error

RIGHT, WRONG, RAISES = "right", "wrong", "raises"
UNSUPPORTED, UNAVAILABLE = "unsupported", "unavailable"

# Directional derivatives are held against central differences in float64, which are
# good to about 1e-9 here. A tangent of zero is off by 1.
_DERIVATIVE_TOLERANCE = 1e-6
_STEP = 1e-5


class Verdict(NamedTuple):
    """One cell of the matrix."""

    status: str
    detail: str = ""
    errors: dict[str, float] = {}  # noqa: RUF012 - never changed


Check = Callable[[Any, Any, Problem, Any], Verdict]


def gradients(adapter: Any, target: Any, problem: Problem, answer: Answer) -> Verdict:
    """Loss, gradients and aux are within the rule."""
    loss, aux, pull = adapter.differentiate(target, problem, **problem.chunks)
    grads = pull(problem.cotangent, again=False)
    verdict = _judged({"loss": loss, **_named(grads), **_aux(aux)}, answer)
    if verdict.status == RIGHT and aux is not None and (mistake := aux_mistake(aux, answer)):
        return Verdict(WRONG, mistake)
    return verdict


def functional(adapter: Any, target: Any, problem: Problem, answer: Answer) -> Verdict:
    """By `torch.func` or by `jax.jit(jax.value_and_grad)`."""
    loss, grads = adapter.functional_gradient(target, problem, **problem.chunks)
    return _judged({"loss": loss, **_named(grads)}, answer)


def second_backward(adapter: Any, target: Any, problem: Problem, answer: Answer) -> Verdict:
    """The same once more."""
    loss, _, pull = adapter.differentiate(target, problem, **problem.chunks)
    pull(problem.cotangent)
    return _judged({"loss": loss, **_named(pull(problem.cotangent))}, answer)


def other_cotangent(adapter: Any, target: Any, problem: Problem, answer: Answer) -> Verdict:
    """One backward must leave nothing behind for the next."""
    loss, _, pull = adapter.differentiate(target, problem, **problem.chunks)
    pull(3 * problem.cotangent)
    return _judged({"loss": loss, **_named(pull(problem.cotangent))}, answer)


def label_refused(adapter: Any, target: Any, problem: Problem, answer: Answer) -> Verdict:
    """A label that is no class is an error or NaN, never a plausible number."""
    try:
        loss, _, _ = adapter.differentiate(target, problem, **problem.chunks)
    except Exception as error:
        return _refused(error)
    value = float(loss.reshape(-1)[4])
    return Verdict(RIGHT, "NaN") if np.isnan(value) else Verdict(WRONG, f"loss {value:.4g}")


def propagates(adapter: Any, target: Any, problem: Problem, answer: Answer) -> Verdict:
    """What is not finite reaches the loss of its own token, and of no other."""
    loss, _, _ = adapter.differentiate(target, problem, **problem.chunks)
    found = np.flatnonzero(~np.isfinite(loss.reshape(-1))).tolist()
    return Verdict(RIGHT) if found == [4] else Verdict(WRONG, f"not finite: tokens {found}")


def forward_mode(adapter: Any, target: Any, problem: Problem, answer: Answer) -> Verdict:
    """The directional derivative, or an error; never zero."""
    direction = _direction(problem)
    try:
        found = adapter.forward_mode(target, problem, direction, **problem.chunks)
    except Exception as error:
        return _refused(error)
    return _near(found, _difference(problem, direction, lambda exact: exact["loss"]))


def second_derivative(adapter: Any, target: Any, problem: Problem, answer: Answer) -> Verdict:
    """The Hessian times a direction, or an error; never zero."""
    direction = _direction(problem)
    unit = problem.but(cotangent=np.asarray(1.0))
    try:
        found = adapter.gradient_in_direction(target, unit, direction, **problem.chunks)
    except Exception as error:
        return _refused(error)
    expected = _difference(unit, direction, lambda exact: exact["grad_hidden"])
    return _near(found["hidden"], expected)


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        gradients,
        functional,
        second_backward,
        other_cotangent,
        label_refused,
        propagates,
        forward_mode,
        second_derivative,
    )
}


def has_answer(check: str) -> bool:
    """Whether a check compares with the answer: bad values and derivatives have none."""
    return CHECKS[check] in (gradients, functional, second_backward, other_cotangent)


def _refused(error: Exception) -> Verdict:
    """An error is a right answer here, unless it says that there is nothing to ask."""
    if isinstance(error, (UnsupportedError, UnavailableError)):
        raise error
    return Verdict(RIGHT, f"refused: {type(error).__name__}")


def _judged(found: dict[str, Array], answer: Answer) -> Verdict:
    too_large = excess(found, answer)
    if not too_large:
        return Verdict(RIGHT)
    name, (error, _) = max(too_large.items(), key=lambda item: _rank(item[1][0]))
    return Verdict(
        WRONG, f"{name} {error:.1e}", {name: error for name, (error, _) in too_large.items()}
    )


def _rank(error: float) -> float:
    return np.inf if np.isnan(error) else error


def _named(grads: dict[str, Array]) -> dict[str, Array]:
    return {f"grad_{name}": grad for name, grad in grads.items()}


def _aux(aux: Any) -> dict[str, Array]:
    return {} if aux is None else {"logsumexp": aux.logsumexp, "log_prob": aux.log_prob}


def aux_mistake(aux: Any, answer: Answer) -> str:
    """What is wrong with the whole numbers of `LossAux`, which no rounding excuses; or nothing."""
    assert answer.best is not None
    counted = answer.best.any(axis=-1)
    if aux.prediction.shape != counted.shape:
        return f"prediction: shape {list(aux.prediction.shape)}, not {list(counted.shape)}"
    classes = np.arange(answer.best.shape[-1])
    is_named = (aux.prediction[..., None] == classes) & answer.best
    right = np.where(counted, is_named.any(axis=-1), aux.prediction == -1)
    if not right.all():
        return f"prediction: {np.sum(~right)} of {right.size} tokens"
    if aux.num_tokens != counted.sum():
        return f"num_tokens: {aux.num_tokens}, not {counted.sum()}"
    return ""


def _direction(problem: Problem) -> dict[str, Array]:
    generator = np.random.default_rng(2)
    inputs = {name: getattr(problem, name) for name in problem.needs}
    return {name: generator.standard_normal(array.shape) for name, array in inputs.items()}


def _difference(
    problem: Problem, direction: dict[str, Array], figure: Callable[[dict[str, Array]], Array]
) -> Array:
    """The central difference of a figure of the exact answer."""
    ends = []
    for sign in (1, -1):
        moved = {name: getattr(problem, name) + sign * _STEP * d for name, d in direction.items()}
        ends.append(figure(solve(problem.but(**moved)).exact))
    return (ends[0] - ends[1]) / (2 * _STEP)


def _near(found: Array, expected: Array) -> Verdict:
    error = relative_error(np.asarray(found), np.asarray(expected))
    if error <= _DERIVATIVE_TOLERANCE:
        return Verdict(RIGHT)
    return Verdict(WRONG, f"derivative {error:.1e}", {"derivative": error})
