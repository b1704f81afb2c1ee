"""One call of a loss, in NumPy, and the answer to it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ml_dtypes  # NumPy's own finfo does not know bfloat16
import numpy as np

from loss_spec.inputs import make_inputs, numpy_dtype
from loss_spec.reference import (
    FLOAT64_ERROR,
    Array,
    LossAndGradients,
    fair_error,
    reference_linear_cross_entropy,
    relative_error,
)

INPUTS = ("hidden", "weight", "bias")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The arrays, the options, the cotangent of the loss, and whose gradients are wanted.

    `chunks` are passed to an implementation that takes them and to no other. Labels get
    the dtype that a framework has for indices, unless `label_dtype` is the question. The
    standard's error is the largest of those in `num_orders` orders of the features.
    """

    hidden: Array
    weight: Array
    labels: Array
    cotangent: Array
    bias: Array | None = None
    class_weight: Array | None = None
    token_weight: Array | None = None
    options: dict[str, Any] = field(default_factory=dict)
    label_dtype: str | None = None
    needs: tuple[str, ...] = INPUTS
    chunks: dict[str, int] = field(default_factory=dict)
    num_orders: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.hidden.dtype

    @property
    def arrays(self) -> dict[str, Array]:
        """The optional arrays that are given."""
        optional = ("bias", "class_weight", "token_weight")
        return {name: array for name in optional if (array := getattr(self, name)) is not None}

    def labels_for(self, index_dtype: str) -> Array:
        """The labels, for a framework whose indices have this dtype."""
        return self.labels.astype(self.label_dtype or index_dtype)

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
    has_class_weight: bool = False,
    has_token_weight: bool = False,
    reduction: str = "mean",
    ignored_fraction: float = 0.4,
    hidden_scale: float = 1.0,
    seed: int = 0,
    **options: Any,
) -> Problem:
    """A seeded problem; the cotangent is never 1, and for "none" is of both signs.

    The chunks divide neither axis of the default shape.
    """
    hidden, weight, labels = make_inputs(
        seed=seed,
        num_tokens=num_tokens,
        hidden_dim=hidden_dim,
        vocab_size=vocab_size,
        dtype=dtype,
        ignored_fraction=ignored_fraction,
    )
    generator = np.random.default_rng(seed + 1)
    bias = generator.standard_normal(vocab_size).astype(numpy_dtype(dtype))
    cotangents = {
        "mean": np.asarray(1.5),
        "sum": np.asarray(-0.75),
        "none": generator.standard_normal(num_tokens),
    }
    weights_dtype = np.float64 if dtype == "float64" else np.float32
    class_weight = generator.uniform(0.5, 2.0, vocab_size).astype(weights_dtype)
    token_weight = generator.uniform(0.5, 2.0, num_tokens).astype(weights_dtype)
    return Problem(
        hidden=(hidden.astype(np.float64) * hidden_scale).astype(hidden.dtype),
        weight=np.ascontiguousarray(weight.T) if vocab_axis == 1 else weight,
        labels=labels,
        bias=bias if has_bias else None,
        class_weight=class_weight if has_class_weight else None,
        token_weight=token_weight if has_token_weight else None,
        cotangent=cotangents[reduction],
        options={"vocab_axis": vocab_axis, "reduction": reduction, "ignore_index": -100} | options,
        needs=INPUTS if has_bias else INPUTS[:2],
        chunks={"vocab_chunk": 100, "token_chunk": 7},
    )


class Answer(NamedTuple):
    """The float64 result, and the largest fair relative error of each of its parts."""

    exact: dict[str, Array]
    standard_errors: dict[str, float]
    best: Array | None = None
    """[..., V] bool: the classes that a prediction may name, none where the token is ignored"""


def solve(problem: Problem) -> Answer:
    """The answer, with the errors of a full-logits loss that computes in the problem's dtype."""
    reference = _reference(problem)
    exact = figures(reference, problem)
    best = _best_classes(problem) if problem.options.get("return_aux") else None
    if problem.dtype == np.float64:
        return Answer(exact, dict.fromkeys(exact, FLOAT64_ERROR / 2), best)
    standard_errors = _standard_errors(problem, reference)
    for seed in range(1, problem.num_orders):
        other = _with_features_in_another_order(problem, seed)
        for name, error in _standard_errors(other, _reference(other)).items():
            standard_errors[name] = max(standard_errors[name], error)
    return Answer(exact, standard_errors, best)


def _standard_errors(problem: Problem, reference: LossAndGradients) -> dict[str, float]:
    standard = _reference(problem, compute_dtype=np.float32, round_to=problem.dtype)
    standard_errors = errors(figures(standard, problem), figures(reference, problem))
    if reference.loss.ndim == 0 and (total := abs(reference.token_losses.sum())) > 0:
        # The errors of many tokens can cancel in their sum. That is luck and no yardstick,
        # so the standard is taken to be off by what independent errors come to.
        spread = np.linalg.norm(standard.token_losses - reference.token_losses) / total
        standard_errors["loss"] = max(standard_errors["loss"], float(spread))
    return standard_errors


def _with_features_in_another_order(problem: Problem, seed: int) -> Problem:
    """The same logits, added up in another order."""
    order = np.random.default_rng(seed).permutation(problem.hidden.shape[-1])
    axis = 1 - problem.options["vocab_axis"]
    return problem.but(
        hidden=problem.hidden[..., order], weight=np.take(problem.weight, order, axis)
    )


def figures(result: LossAndGradients, problem: Problem) -> dict[str, Array]:
    """Loss, the gradients that are wanted, and what of `LossAux` is a real number."""
    gradients = {name: getattr(result, f"grad_{name}") for name in problem.needs}
    found = {"loss": result.loss, **{f"grad_{name}": grad for name, grad in gradients.items()}}
    if problem.options.get("return_aux"):
        found |= {"logsumexp": result.aux.logsumexp, "log_prob": result.aux.log_prob}
    return found


def errors(found: dict[str, Array], exact: dict[str, Array]) -> dict[str, float]:
    """Relative L2 error of every figure."""
    return {name: relative_error(found[name], expected) for name, expected in exact.items()}


def excess(found: dict[str, Array], answer: Answer) -> dict[str, tuple[float, float]]:
    """The figures that break the rule: their errors, and the largest fair ones.

    At most twice the error of the standard plus a few units in the last place of the
    dtype that the figure has.
    """
    too_large = {}
    for name, error in errors(found, answer.exact).items():
        limit = fair_error(answer.standard_errors[name], found[name].dtype)
        if not error <= limit:  # NaN is too large as well
            too_large[name] = (error, limit)
    return too_large


def _best_classes(problem: Problem) -> Array:
    """Where the exact logit is the largest, or so near to it that rounding may change places.

    "So near" is generous, far more than the units in the last place that sums are off: a
    class that is picked by mistake is nowhere near.
    """
    weight = problem.weight.astype(np.float64)
    logits = problem.hidden.astype(np.float64) @ (
        weight if problem.options.get("vocab_axis") == 1 else weight.T
    )
    if problem.bias is not None:
        logits += problem.bias.astype(np.float64)
    logits *= problem.options.get("logit_scale", 1.0)
    if softcap := problem.options.get("logit_softcap"):
        logits = softcap * np.tanh(logits / softcap)
    magnitude = np.where(np.isfinite(logits), np.abs(logits), 0).max(axis=-1, keepdims=True)
    near = float(ml_dtypes.finfo(problem.dtype).eps) ** 0.5 * magnitude
    counted = problem.labels != problem.options.get("ignore_index", -100)
    return (logits >= logits.max(axis=-1, keepdims=True) - near) & counted[..., None]


def _reference(problem: Problem, **computing: Any) -> LossAndGradients:
    token_shape, hidden_dim = problem.labels.shape, problem.hidden.shape[-1]
    options = {name: value for name, value in problem.options.items() if name != "return_aux"}
    arrays: dict[str, Any] = dict(problem.arrays)
    if problem.token_weight is not None:
        arrays["token_weight"] = problem.token_weight.reshape(-1)
    result = reference_linear_cross_entropy(
        problem.hidden.reshape(-1, hidden_dim),
        problem.weight,
        # Wide enough for ignore_index, whatever dtype the labels have.
        problem.labels.reshape(-1).astype(np.int64),
        cotangent=problem.cotangent.reshape(-1) if problem.cotangent.ndim else problem.cotangent,
        **arrays,
        **options,
        **computing,
    )
    is_per_token = problem.options.get("reduction") == "none"
    aux = result.aux
    return result._replace(
        loss=result.loss.reshape(token_shape) if is_per_token else result.loss,
        grad_hidden=result.grad_hidden.reshape(problem.hidden.shape),
        aux=aux._replace(
            **{
                name: getattr(aux, name).reshape(token_shape)
                for name in ("logsumexp", "log_prob", "prediction")
            }
        ),
    )
