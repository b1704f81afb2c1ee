"""The reference itself, against the formula written out and finite differences."""

from __future__ import annotations

import itertools
import math

import ml_dtypes
import numpy as np
import pytest

from loss_spec import reference as reference_module
from loss_spec.reference import error_limits, reference_linear_cross_entropy, relative_error

REDUCTIONS = ["mean", "sum", "none"]


def make_arrays(num_tokens=4, hidden_dim=3, vocab_size=5):
    generator = np.random.default_rng(0)
    hidden = generator.standard_normal((num_tokens, hidden_dim))
    weight = generator.standard_normal((vocab_size, hidden_dim))
    bias = generator.standard_normal(vocab_size)
    labels = np.resize([2, -100, 0, 4], num_tokens)
    return hidden, weight, bias, labels


def loss_by_hand(hidden, weight, bias, labels, reduction):
    """The contract's formula, one Python number at a time."""
    losses = []
    for x, label in zip(hidden, labels, strict=True):
        if label == -100:
            losses.append(0.0)
            continue
        logits = [math.fsum(x * w) + b for w, b in zip(weight, bias, strict=True)]
        losses.append(math.log(math.fsum(map(math.exp, logits))) - logits[label])
    if reduction == "none":
        return np.array(losses)
    counted = max(sum(label != -100 for label in labels), 1)
    return math.fsum(losses) / (counted if reduction == "mean" else 1)


@pytest.mark.parametrize("vocab_axis", [0, 1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_loss(reduction, vocab_axis):
    hidden, weight, bias, labels = make_arrays()
    got = reference_linear_cross_entropy(
        hidden,
        weight if vocab_axis == 0 else weight.T,
        labels,
        bias=bias,
        vocab_axis=vocab_axis,
        reduction=reduction,
    )
    np.testing.assert_allclose(
        got.loss, loss_by_hand(hidden, weight, bias, labels, reduction), rtol=1e-14
    )


@pytest.mark.parametrize("vocab_axis", [0, 1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradients(reduction, vocab_axis):
    """Central differences of the formula: their own error is about step**2 = 1e-10."""
    hidden, weight, bias, labels = make_arrays()
    cotangent = np.array([0.5, 3.0, -2.0, 0.25]) if reduction == "none" else -1.5
    got = reference_linear_cross_entropy(
        hidden,
        weight if vocab_axis == 0 else weight.T,
        labels,
        bias=bias,
        vocab_axis=vocab_axis,
        reduction=reduction,
        cotangent=cotangent,
    )

    def objective():
        return np.sum(cotangent * loss_by_hand(hidden, weight, bias, labels, reduction))

    grad_weight = got.grad_weight if vocab_axis == 0 else got.grad_weight.T
    for array, gradient in (
        (hidden, got.grad_hidden),
        (weight, grad_weight),
        (bias, got.grad_bias),
    ):
        np.testing.assert_allclose(gradient, central_differences(objective, array), atol=1e-8)


def central_differences(objective, array, step=1e-5):
    slopes = np.zeros_like(array)
    for index in itertools.product(*map(range, array.shape)):
        value = array[index]
        array[index] = value + step
        above = objective()
        array[index] = value - step
        below = objective()
        array[index] = value
        slopes[index] = (above - below) / (2 * step)
    return slopes


def test_large_logits():
    """exp of a thousand is no number; the loss is."""
    hidden, weight, bias, labels = make_arrays()
    hidden = 1000 * hidden
    got = reference_linear_cross_entropy(hidden, weight, labels, bias=bias, reduction="none")
    logits = hidden @ weight.T + bias
    counted = labels != -100
    largest = logits.max(axis=1, keepdims=True)
    logsumexp = largest[:, 0] + np.log(np.exp(logits - largest).sum(axis=1))
    expected = np.where(counted, logsumexp - logits[np.arange(4), np.where(counted, labels, 0)], 0)
    np.testing.assert_allclose(got.loss, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_all_ignored(reduction):
    hidden, weight, bias, labels = make_arrays()
    labels = np.full_like(labels, -100)
    got = reference_linear_cross_entropy(hidden, weight, labels, bias=bias, reduction=reduction)
    assert all((array == 0).all() for array in got)


def test_ignore_index_that_is_a_class():
    hidden, weight, bias, labels = make_arrays()
    renamed = np.where(labels == -100, 3, labels)  # 3 is nobody's label otherwise
    one = reference_linear_cross_entropy(hidden, weight, labels, bias=bias)
    other = reference_linear_cross_entropy(hidden, weight, renamed, bias=bias, ignore_index=3)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_blocks_of_tokens_do_not_show(monkeypatch):
    hidden, weight, bias, labels = make_arrays(num_tokens=11)
    whole = reference_linear_cross_entropy(hidden, weight, labels, bias=bias)
    monkeypatch.setattr(reference_module, "_BLOCK_BYTES", 2 * 8 * len(weight))  # two tokens
    blocks = reference_linear_cross_entropy(hidden, weight, labels, bias=bias)
    for one, other in zip(whole, blocks, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_round_to_rounds_like_a_framework_in_that_dtype(dtype):
    """Gradients are values of the dtype, and the error is of its size: neither 0 nor large."""
    arrays = make_arrays(num_tokens=64, hidden_dim=32, vocab_size=50)
    hidden, weight, bias, labels = arrays
    exact = reference_linear_cross_entropy(hidden, weight, labels, bias=bias, reduction="sum")
    rounded = reference_linear_cross_entropy(
        hidden,
        weight,
        labels,
        bias=bias,
        reduction="sum",
        compute_dtype=np.float32,
        round_to=dtype,
    )
    epsilon = float(ml_dtypes.finfo(dtype).eps)
    for value, reference in zip(rounded[1:], exact[1:], strict=True):
        np.testing.assert_array_equal(value, value.astype(dtype).astype(np.float32))
        assert epsilon / 32 < relative_error(value, reference) < epsilon


def test_relative_error():
    reference = np.array([3.0, 4.0])
    assert relative_error(reference, reference) == 0
    assert relative_error(np.array([3.0, 4.5]), reference) == pytest.approx(0.1)
    assert relative_error(np.float32(1.5), np.asarray(1.0)) == 0.5


def test_relative_error_of_zero_is_absolute():
    assert relative_error(np.array([0.3, 0.4]), np.zeros(2)) == pytest.approx(0.5)


def test_relative_error_with_nan_is_nan():
    """On either side; no comparison with a limit can then hold."""
    good, broken = np.ones(3), np.array([1.0, np.nan, 1.0])
    assert np.isnan(relative_error(broken, good))
    assert np.isnan(relative_error(good, broken))


def test_relative_error_with_infinity_is_above_any_limit():
    assert relative_error(np.array([1.0, np.inf, 1.0]), np.ones(3)) == np.inf


def test_relative_error_walks_all_rows():
    reference = np.ones((10, 2))
    value = reference.copy()
    value[9, 1] = 2
    assert relative_error(value, reference, block_rows=3) == pytest.approx(20**-0.5)


def test_relative_error_refuses_another_shape():
    with pytest.raises(ValueError, match=r"^value: expected shape \(2, 1\), got \(2,\)$"):
        relative_error(np.ones(2), np.ones((2, 1)))


@pytest.mark.parametrize(
    ("dtype", "loss_floor", "gradient_floor"),
    [
        (np.float64, 4 * 2.0**-52, 4 * 2.0**-52),
        (np.float32, 4 * 2.0**-23, 4 * 2.0**-23),
        (np.float16, 4 * 2.0**-23, 4 * 2.0**-10),
        (ml_dtypes.bfloat16, 4 * 2.0**-23, 4 * 2.0**-7),
    ],
)
def test_error_limits(dtype, loss_floor, gradient_floor):
    """Twice the standard's own error, and a floor in units of what is returned."""
    limits = error_limits({"loss_error": 0.0, "grad_weight_error": 0.5}, dtype)
    assert limits == {"loss_error": loss_floor, "grad_weight_error": 1.0 + gradient_floor}


def test_error_limits_of_nan_are_nan():
    assert np.isnan(error_limits({"loss_error": np.nan}, np.float32)["loss_error"])
