"""Every option together with every other, and with all dtypes, layouts and reductions.

An option is given or not. The fast tier takes a pairwise cover of all of it. Beyond that,
PyTorch computes all 2^7 subsets, with every reduction and layout. JAX compiles again for the 2^5
subsets of options that change its program; there the rest takes turns, so that everything meets
every option.
"""

from __future__ import annotations

from itertools import combinations, compress, cycle, product

import numpy as np
import pytest

from harness.conformance.problem import excess, make_problem, solve
from loss_spec.reference import reference_linear_cross_entropy
from tests.conformance.evaluation import CHUNKED, Framework, assert_fair
from tests.tables import cover, slow

COMPILED_OPTIONS = {
    "label_smoothing": {"label_smoothing": 0.1},
    "logit_scale": {"logit_scale": 0.7},
    "logit_softcap": {"logit_softcap": 2.0},
    "z_loss": {"z_loss": 1e-2},
    "class_weight": {"has_class_weight": True},
}
OPTIONS = COMPILED_OPTIONS | {
    "bias": {"has_bias": True},
    "token_weight": {"has_token_weight": True},
}
NOTHING = {"has_bias": False}

DTYPES = ("float16", "bfloat16", "float32", "float64")
LAYOUTS = (0, 1)
REDUCTIONS = ("mean", "sum", "none")

# Chunks that divide no axis.
SHAPE = {"num_tokens": 11, "hidden_dim": 7, "vocab_size": 23}
CHUNKS = {"vocab_chunk": 9, "token_chunk": 4}


def subsets(options):
    return [chosen for size in range(len(options) + 1) for chosen in combinations(options, size)]


def in_turn(chosen, *others):
    """Each subset with the next of each of the others."""
    return list(zip(chosen, *map(cycle, others), strict=False))


def problem_with(chosen, **changes):
    options = {name: value for option in chosen for name, value in OPTIONS[option].items()}
    return make_problem(**SHAPE, **(NOTHING | options | changes)).but(chunks=CHUNKS)


# Lengths of 8, 3 and 5: without a common divisor, so that these meet each other as well.
OF_JAX = in_turn(
    subsets(COMPILED_OPTIONS),
    list(product(DTYPES, LAYOUTS)),
    REDUCTIONS,
    [(), ("bias",), ("token_weight",), ("bias", "token_weight"), ("bias",)],
)


# Any two of: an option given or not, a dtype, a layout, a reduction.
PAIRS = [
    (tuple(compress(OPTIONS, row)), *row[len(OPTIONS) :])
    for row in cover(*[(False, True)] * len(OPTIONS), DTYPES, LAYOUTS, REDUCTIONS)
]


@pytest.fixture
def torch():
    framework = Framework("torch")
    with framework.adapter.settings():
        yield framework


@pytest.fixture
def jax():
    framework = Framework("jax")
    with framework.adapter.settings():
        yield framework


def named(value):
    return ("-".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize(("chosen", "dtype", "vocab_axis", "reduction"), PAIRS, ids=named)
def test_any_two(framework, chosen, dtype, vocab_axis, reduction):
    problem = problem_with(chosen, dtype=dtype, vocab_axis=vocab_axis, reduction=reduction)
    assert_fair(framework, problem)
    check_aux(framework, problem)


@slow
@pytest.mark.parametrize("chosen", subsets(OPTIONS), ids=named)
def test_torch_with_every_reduction_and_layout(torch, chosen):
    for reduction, vocab_axis in product(REDUCTIONS, LAYOUTS):
        problem = problem_with(chosen, dtype="float64", reduction=reduction, vocab_axis=vocab_axis)
        assert_fair(torch, problem)


@slow
@pytest.mark.parametrize(
    ("chosen", "vocab_axis", "reduction"),
    in_turn(subsets(OPTIONS), LAYOUTS, REDUCTIONS),
    ids=named,
)
def test_torch_with_every_dtype(torch, chosen, vocab_axis, reduction):
    for dtype in DTYPES:
        problem = problem_with(chosen, dtype=dtype, reduction=reduction, vocab_axis=vocab_axis)
        assert_fair(torch, problem)


@slow
@pytest.mark.parametrize(("chosen", "dtype_and_layout", "reduction", "more"), OF_JAX, ids=named)
def test_jax(jax, chosen, dtype_and_layout, reduction, more):
    dtype, vocab_axis = dtype_and_layout
    problem = problem_with(
        (*chosen, *more), dtype=dtype, reduction=reduction, vocab_axis=vocab_axis
    )
    assert_fair(jax, problem)


def test_everything_meets_every_option():
    met = {
        (option, value)
        for chosen, dtype_and_layout, reduction, more in OF_JAX
        for option in chosen
        for value in (*dtype_and_layout, reduction, more)
    }
    choices = (*DTYPES, *LAYOUTS, *REDUCTIONS, (), ("bias",), ("token_weight",))
    assert met >= set(product(COMPILED_OPTIONS, choices))


@slow
@pytest.mark.parametrize(("chosen", "dtype"), in_turn(subsets(OPTIONS), DTYPES), ids=named)
def test_aux_of_torch(torch, chosen, dtype):
    check_aux(torch, problem_with(chosen, dtype=dtype))


@slow
@pytest.mark.parametrize(
    ("chosen", "dtype"),
    in_turn(
        [(), *combinations(COMPILED_OPTIONS, 4), (*OPTIONS,)], ["float32", "float64", "bfloat16"]
    ),
    ids=named,
)
def test_aux_of_jax(jax, chosen, dtype):
    check_aux(jax, problem_with(chosen, dtype=dtype))


def check_aux(framework, problem):
    """The loss and what is said beside it; the prediction is exact where the logits are."""
    asked = problem.but(options=problem.options | {"return_aux": True}, needs=())
    target = getattr(framework.implementation, CHUNKED)
    loss, aux, _ = framework.adapter.differentiate(target, asked, **CHUNKS)
    found = {"loss": loss, "logsumexp": aux.logsumexp, "log_prob": aux.log_prob}
    assert not excess(found, solve(asked))

    exact = reference_linear_cross_entropy(
        problem.hidden, problem.weight, problem.labels, **problem.arrays, **problem.options
    ).aux
    assert aux.prediction.dtype == np.int32
    assert aux.num_tokens == exact.num_tokens
    np.testing.assert_array_equal(aux.prediction == -1, problem.labels == -100)
    if problem.dtype.itemsize > 2:
        np.testing.assert_array_equal(aux.prediction, exact.prediction)
