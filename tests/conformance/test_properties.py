"""What holds for every problem: random shapes, chunks, dtypes, reductions and options."""

from __future__ import annotations

import numpy as np
import pytest

from harness.conformance.problem import make_problem, solve
from loss_spec.reference import relative_error
from tests.conformance.evaluation import CHUNKED, assert_dtypes_and_shapes, errors
from tests.conformance.random_problems import (
    arrays_of,
    chunked,
    examples,
    fair_errors,
    for_all,
    for_random_problems,
    random_orders,
    reordered,
)


@for_random_problems()
def test_agrees_with_float64(framework, problem, generator):
    result = chunked(framework, problem)
    assert_dtypes_and_shapes(result, problem)
    limits = fair_errors(problem)
    for name, error in errors(result, solve(problem)).items():
        assert error <= limits[name], f"{name} {error:.3g} > {limits[name]:.3g}"


@for_random_problems()
def test_chunk_sizes_do_not_show(framework, problem, generator):
    """Another pair is no further away than both may be from float64."""
    num_tokens, vocab_size = len(problem.hidden), problem.weight.shape[0]
    other = {"vocab_chunk": 1000, "token_chunk": 1000}  # what JAX has compiled, but for one
    if framework.name == "torch":
        other = {
            "vocab_chunk": int(generator.integers(1 + vocab_size // 12, vocab_size + 9)),
            "token_chunk": int(generator.integers(1 + num_tokens // 12, num_tokens + 9)),
        }
    assert_same(framework, problem, chunked(framework, problem.but(chunks=other)))


@examples
def test_frameworks_agree(both_frameworks, examples):
    """JAX and PyTorch are no further apart than both may be from float64."""
    jax, torch = both_frameworks

    def agree(problem, generator):
        one, other = chunked(jax, problem), chunked(torch, problem)
        limits = fair_errors(problem)
        for name, array in arrays_of(one).items():
            assert array.dtype == getattr(other, name).dtype
            error = relative_error(array, getattr(other, name))
            assert error <= 2 * limits[name], name

    for_all("jax", agree, examples)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@examples
def test_ignored_tokens_count_nothing(framework, value, examples):
    """Exactly nothing, also where their token_weight is no number."""

    def count_nothing(problem, generator):
        ignored = problem.labels == problem.options["ignore_index"]
        token_weight = problem.token_weight.copy()
        token_weight[ignored] = value
        before = chunked(framework, problem)
        after = chunked(framework, problem.but(token_weight=token_weight))
        assert (after.grad_hidden[ignored] == 0).all()
        if problem.options["reduction"] == "none":
            assert (after.loss[ignored] == 0).all()
        assert_equal(after, before)

    for_all(framework.name, count_nothing, examples, token_weight_dtype="float32")


@for_random_problems()
def test_gradients_are_linear_in_powers_of_two(framework, problem, generator):
    """Exactly, since they change no digit: but for what float16 has no room for.

    In two passes: a second backward of one pass in PyTorch adds up in another order.
    """
    factor = float(generator.choice([-1.0, -0.25, 2.0, 16.0]))
    problem = problem.but(chunks=problem.chunks | {"strategy": "two_pass"})
    once, scaled = gradients(framework, problem, problem.cotangent, factor * problem.cotangent)
    for name, gradient in once.items():
        expected = factor * gradient.astype(np.float64)
        is_normal = np.ones(gradient.shape, bool)
        if gradient.dtype == np.float16:
            smallest, largest = np.abs([gradient, expected]).min(0), np.abs(expected)
            is_normal = (smallest >= 2.0**-14) & (largest <= 65504)
        found = scaled[name].astype(np.float64)
        np.testing.assert_array_equal(found[is_normal], expected[is_normal], name)


@for_random_problems()
def test_gradients_of_a_sum_of_cotangents(framework, problem, generator):
    """The sum of those of its terms, as nearly as each is what it should be."""
    # Eighths, so that the cotangents themselves are exact in float32.
    one, other = generator.integers(-16, 17, (2, *problem.cotangent.shape)) / 8
    found = gradients(framework, problem, one, other, one + other)
    room = dict.fromkeys(found[0], 0.0)
    for cotangent in (one, other, one + other):
        changed = problem.but(cotangent=np.asarray(cotangent))
        exact, limits = solve(changed).exact, fair_errors(changed)
        for name in room:
            figure = f"grad_{name}"
            room[name] += limits[figure] * (np.linalg.norm(exact[figure]) or 1)
    for name, at_most in room.items():
        first, second, both = (grads[name].astype(np.float64) for grads in found)
        assert np.linalg.norm(both - first - second) <= at_most, name


@for_random_problems(has_bias=True, logit_scale=-0.5, logit_softcap=None, z_loss=0.0)
def test_shift_of_all_logits_does_not_show(framework, problem, generator):
    """Not in one bit: whole numbers, of which every logit is exact, shifted or not."""
    # As far as the bias's dtype counts in ones.
    shift = {2: 128, 4: 2.0**16, 8: 2.0**40}[problem.dtype.itemsize]
    changes = {
        name: np.rint(scale * getattr(problem, name).astype(np.float64)).astype(problem.dtype)
        for name, scale in (("hidden", 1), ("weight", 3), ("bias", 1))
    }
    whole = problem.but(**changes)
    shifted = (whole.bias.astype(np.float64) + generator.choice([-1, 1]) * shift).astype(
        problem.dtype
    )
    assert_equal(chunked(framework, whole.but(bias=shifted)), chunked(framework, whole))


@for_random_problems()
def test_order_of_tokens_classes_and_features(framework, problem, generator):
    """In another order come the same numbers, in that order."""
    tokens, classes, features = random_orders(problem, int(generator.integers(1, 2**16)))
    result = chunked(framework, reordered(problem, tokens, classes, features))
    rows, columns, same = np.argsort(tokens), np.argsort(classes), np.argsort(features)
    back = (same, columns) if problem.options["vocab_axis"] else (columns, same)
    restored = result._replace(
        loss=result.loss[rows] if result.loss.ndim else result.loss,
        grad_hidden=result.grad_hidden[rows][:, same],
        grad_weight=result.grad_weight[np.ix_(*back)],
        grad_bias=None if result.grad_bias is None else result.grad_bias[columns],
    )
    assert_same(framework, problem, restored)


@for_random_problems(num_tokens=24)
def test_batch_axes(framework, problem, generator):
    """hidden [2, 1, 12, D] is [24, D] in other words."""
    shape = (2, 1, 12)
    batched = problem.but(
        hidden=problem.hidden.reshape(*shape, -1),
        labels=problem.labels.reshape(shape),
        cotangent=problem.cotangent.reshape(shape if problem.cotangent.ndim else ()),
        token_weight=None if problem.token_weight is None else problem.token_weight.reshape(shape),
    )
    result, flat = chunked(framework, batched), chunked(framework, problem)
    assert_dtypes_and_shapes(result, batched)
    assert_equal(
        result._replace(
            loss=result.loss.reshape(flat.loss.shape),
            grad_hidden=result.grad_hidden.reshape(problem.hidden.shape),
        ),
        flat,
    )


@pytest.mark.parametrize(
    ("dtype", "label_smoothing"),
    [("float16", 0.0), ("bfloat16", 0.1), ("float32", 0.1), ("float64", 0.0)],
)
def test_one_class_costs_nothing(framework, dtype, label_smoothing):
    """Its probability is 1: no loss, and gradients that cancel to a rounding of their terms."""
    problem = make_problem(
        dtype=dtype,
        vocab_size=1,
        reduction="sum",
        logit_scale=-2.5,
        label_smoothing=label_smoothing,
    )
    result = chunked(framework, problem)
    assert result.loss == 0
    # A coefficient of about 1 for the probability and one for the label: two roundings each.
    unit = np.finfo(result.loss.dtype).eps
    of_a_logit = 4 * unit * abs(problem.cotangent * problem.options["logit_scale"])
    counted = problem.labels != -100
    hidden, weight = (abs(array.astype(np.float64)) for array in (problem.hidden, problem.weight))
    assert (abs(result.grad_hidden) <= of_a_logit * counted[:, None] * weight).all()
    assert (abs(result.grad_weight) <= of_a_logit * hidden[counted].sum(0)).all()
    assert (abs(result.grad_bias) <= of_a_logit * counted.sum()).all()


def gradients(framework, problem, *cotangents):
    """For each cotangent, from one forward."""
    _, pull = framework.differentiate(CHUNKED, problem, **problem.chunks)
    return [pull(cotangent) for cotangent in cotangents]


def assert_equal(result, expected):
    for name, array in arrays_of(expected).items():
        np.testing.assert_array_equal(getattr(result, name), array, name)


def assert_same(framework, problem, result):
    """As the chunked loss on the problem: no further away than both may be from float64."""
    limits = fair_errors(problem)
    for name, array in arrays_of(chunked(framework, problem)).items():
        error = relative_error(getattr(result, name), array)
        assert error <= 2 * limits[name], f"{name} {error:.3g} > {2 * limits[name]:.3g}"
