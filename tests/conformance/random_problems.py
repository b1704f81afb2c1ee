"""Random problems for tests of properties, and how far from float64 each may be."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.conformance.problem import Problem, make_problem, solve
from loss_spec.inputs import numpy_dtype
from loss_spec.reference import fair_error
from tests.conformance.evaluation import CHUNKED, Framework, Result, evaluate
from tests.tables import slow

DTYPES = ("float16", "bfloat16", "float32", "float64")
REDUCTIONS = ("mean", "sum", "none")

FEW, MANY = {"torch": 20, "jax": 4}, {"torch": 60, "jax": 12}
examples = pytest.mark.parametrize(
    "examples", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=slow)]
)

# JAX compiles again, about a second, for every shape, dtype, layout, pair of chunks and
# option that is a number. So what it gets differs in the rest: values, labels, weights and
# reductions. Between them, these have each of those options on and off.
COMPILED_BY_JAX: list[dict[str, Any]] = [
    {
        "dtype": "float32", "vocab_axis": 0, "has_bias": True,
        "num_tokens": 13, "hidden_dim": 8, "vocab_size": 37, "token_chunk": 4, "vocab_chunk": 10,
        "label_smoothing": 0.125, "logit_scale": -2.5, "logit_softcap": None, "z_loss": 0.0,
    },
    {
        "dtype": "float32", "vocab_axis": 1, "has_bias": False,
        "num_tokens": 40, "hidden_dim": 5, "vocab_size": 200, "token_chunk": 64, "vocab_chunk": 33,
        "label_smoothing": 0.0, "logit_scale": 1.0, "logit_softcap": 1.5, "z_loss": 0.5,
    },
    {
        "dtype": "float64", "vocab_axis": 1, "has_bias": True,
        "num_tokens": 7, "hidden_dim": 24, "vocab_size": 6, "token_chunk": 1, "vocab_chunk": 1,
        "label_smoothing": 0.75, "logit_scale": 0.3, "logit_softcap": 30.0, "z_loss": 1e-3,
    },
    {
        "dtype": "bfloat16", "vocab_axis": 0, "has_bias": False,
        "num_tokens": 20, "hidden_dim": 17, "vocab_size": 90, "token_chunk": 9, "vocab_chunk": 45,
        "label_smoothing": 0.125, "logit_scale": 1.0, "logit_softcap": 1.5, "z_loss": 1e-3,
    },
    {
        "dtype": "float16", "vocab_axis": 1, "has_bias": True,
        "num_tokens": 24, "hidden_dim": 3, "vocab_size": 150, "token_chunk": 6, "vocab_chunk": 64,
        "label_smoothing": 0.0, "logit_scale": -2.5, "logit_softcap": None, "z_loss": 0.5,
    },
]  # fmt: skip

# An example is a few tiles: PyTorch takes a fraction of a millisecond for each.
_MAX_CHUNKS = 12

# Orders in which the standard adds up: one of them may be exact by luck.
_ORDERS = 4


def random_problem(
    *,
    seed: int,
    num_tokens: int,
    vocab_size: int,
    vocab_chunk: int,
    token_chunk: int,
    ignore_index: int | str,
    class_weight_dtype: str | None,
    token_weight_dtype: str | None,
    **options: Any,
) -> Problem:
    """`make_problem`, with weights of few bits: eighths, zeros among those of tokens.

    So that what is 0 by the formula (one class, and no z-loss) is exactly 0.
    """
    problem = make_problem(
        seed=seed,
        num_tokens=num_tokens,
        vocab_size=vocab_size,
        has_class_weight=class_weight_dtype is not None,
        has_token_weight=token_weight_dtype is not None,
        **options,
    )
    classes = {"first class": 0, "last class": vocab_size - 1, "one past the end": vocab_size}
    ignored_as = classes.get(ignore_index, ignore_index)  # type: ignore[call-overload]
    weights = {}
    if problem.class_weight is not None:
        eighths = np.ceil(8 * problem.class_weight) / 8
        weights["class_weight"] = eighths.astype(numpy_dtype(str(class_weight_dtype)))
    if problem.token_weight is not None:
        eighths = np.ceil(8 * problem.token_weight) / 8
        eighths[np.random.default_rng(seed).random(num_tokens) < 0.2] = 0
        weights["token_weight"] = eighths.astype(numpy_dtype(str(token_weight_dtype)))
    return problem.but(
        labels=np.where(problem.labels == -100, ignored_as, problem.labels),
        options=problem.options | {"ignore_index": ignored_as},
        chunks={
            "vocab_chunk": max(vocab_chunk, -(-vocab_size // _MAX_CHUNKS)),
            "token_chunk": max(token_chunk, -(-num_tokens // _MAX_CHUNKS)),
        },
        **weights,
    )


def problems(**fixed: Any) -> st.SearchStrategy[Problem]:
    """Every shape, dtype, layout, reduction and option, but for what is given."""
    weight_dtype = st.sampled_from((None, *DTYPES))
    drawn: dict[str, st.SearchStrategy[Any]] = {
        "seed": st.integers(0, 2**16),
        "dtype": st.sampled_from(DTYPES),
        "num_tokens": st.integers(0, 40),
        "hidden_dim": st.integers(1, 24),
        "vocab_size": st.integers(2, 200),  # the gradients of one class are 0: a test of its own
        "vocab_axis": st.sampled_from((0, 1)),
        "vocab_chunk": st.integers(1, 220),
        "token_chunk": st.integers(1, 50),
        "reduction": st.sampled_from(REDUCTIONS),
        "has_bias": st.booleans(),
        "class_weight_dtype": weight_dtype,
        "token_weight_dtype": weight_dtype,
        "ignored_fraction": st.sampled_from((0.4, 0.0, 0.8, 1.0)),
        "ignore_index": st.sampled_from((-100, "first class", "last class", "one past the end")),
        "label_smoothing": st.sampled_from((0.0, 0.125, 0.75)),
        "logit_scale": st.sampled_from((1.0, 0.3, -2.5)),
        "logit_softcap": st.sampled_from((None, 1.5, 30.0)),
        "z_loss": st.sampled_from((0.0, 1e-3, 0.5)),
    }
    return st.builds(random_problem, **(drawn | {key: st.just(fixed[key]) for key in fixed}))


def problems_for(framework_name: str, **fixed: Any) -> st.SearchStrategy[Problem]:
    """All that there are for PyTorch; what has been compiled already for JAX."""
    if framework_name == "torch":
        return problems(**fixed)
    return st.one_of(*(problems(**(compiled | fixed)) for compiled in COMPILED_BY_JAX))


def for_random_problems(**fixed: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a test of `holds(framework, problem, generator)`, which asserts a property."""

    def decorate(holds: Callable[..., None]) -> Callable[..., None]:
        @examples
        def test(framework: Framework, examples: dict[str, int]) -> None:
            for_all(framework.name, functools.partial(holds, framework), examples, **fixed)

        test.__name__, test.__doc__ = holds.__name__, holds.__doc__
        return test

    return decorate


def for_all(
    framework_name: str, holds: Callable[..., None], examples: dict[str, int], **fixed: Any
) -> None:
    """`holds(problem, generator)` for as many problems as the framework has time for."""

    def check(problem: Problem, seed: int) -> None:
        holds(problem, np.random.default_rng(seed))

    is_fast = framework_name == "torch"
    configured = settings(
        max_examples=examples[framework_name],
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=True,
        # A smaller counterexample would be one more compilation for each attempt.
        phases=[Phase.generate, Phase.shrink] if is_fast else [Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    drawn = given(problem=problems_for(framework_name, **fixed), seed=st.integers(0, 2**16))
    configured(drawn(check))()


def chunked(framework: Framework, problem: Problem) -> Result:
    return evaluate(framework, CHUNKED, problem)


def arrays_of(result: Result) -> dict[str, np.ndarray]:
    """The figures that are wanted, by name."""
    return {name: array for name, array in result._asdict().items() if array is not None}


def reordered(problem: Problem, tokens: Any, classes: Any, features: Any) -> Problem:
    """Tokens, classes and features in another order, labels renamed along."""
    axes = (features, classes) if problem.options["vocab_axis"] else (classes, features)
    is_class = (problem.labels >= 0) & (problem.labels < len(classes))
    renamed = np.argsort(classes)[np.where(is_class, problem.labels, 0)]
    ignore_index = problem.options["ignore_index"]
    if 0 <= ignore_index < len(classes):
        ignore_index = int(np.argsort(classes)[ignore_index])

    def taken(array: Any, order: Any) -> Any:
        return None if array is None else array[order]

    return problem.but(
        hidden=problem.hidden[tokens][:, features],
        weight=np.ascontiguousarray(problem.weight[np.ix_(*axes)]),
        labels=np.where(is_class, renamed, problem.labels)[tokens],
        bias=taken(problem.bias, classes),
        class_weight=taken(problem.class_weight, classes),
        token_weight=taken(problem.token_weight, tokens),
        cotangent=problem.cotangent[tokens] if problem.cotangent.ndim else problem.cotangent,
        options=problem.options | {"ignore_index": ignore_index},
    )


def random_orders(problem: Problem, seed: int) -> tuple[Any, Any, Any]:
    """Of tokens, classes and features; seed 0 leaves all as they are."""
    lengths = *problem.hidden.shape[:1], problem.weight.shape[problem.options["vocab_axis"]]
    generator = np.random.default_rng(seed)
    order = generator.permutation if seed else np.arange
    return order(lengths[0]), order(lengths[1]), order(problem.hidden.shape[1])


def fair_errors(problem: Problem) -> dict[str, float]:
    """The largest fair relative error of each figure: the rule, by standards without luck.

    Problems this small have figures of a few terms, which a standard may get exactly right
    in one order of its sums and not in the next. So the yardstick is the worst of a few
    orders, and NumPy's: the framework's own standard shares its reduction with the loss.
    """
    worst: dict[str, float] = {}
    for seed in range(_ORDERS):
        answer = solve(reordered(problem, *random_orders(problem, seed)))
        for name, error in answer.standard_errors.items():
            worst[name] = max(worst.get(name, 0.0), error)
    narrow, wide = problem.dtype, np.float64 if problem.dtype == np.float64 else np.float32
    return {
        name: fair_error(error, wide if name == "loss" else narrow) for name, error in worst.items()
    }
