"""The reference itself, against the formula written out and finite differences."""

from __future__ import annotations

import itertools
import math

import ml_dtypes
import numpy as np
import pytest

from loss_spec import reference as reference_module
from loss_spec.reference import fair_error, reference_linear_cross_entropy, relative_error

REDUCTIONS = ["mean", "sum", "none"]


def make_arrays(num_tokens=4, hidden_dim=3, vocab_size=5):
    generator = np.random.default_rng(0)
    hidden = generator.standard_normal((num_tokens, hidden_dim))
    weight = generator.standard_normal((vocab_size, hidden_dim))
    bias = generator.standard_normal(vocab_size)
    labels = np.resize([2, -100, 0, 4], num_tokens)
    return hidden, weight, bias, labels


OPTIONS = {
    "none": {},
    "label_smoothing": {"label_smoothing": 0.1},
    "logit_scale": {"logit_scale": -0.7},
    "logit_softcap": {"logit_softcap": 1.5},
    "z_loss": {"z_loss": 0.3},
    "class_weight": {"class_weight": np.array([0.5, 2.0, 1.5, 0.0, 3.0])},
    "token_weight": {"token_weight": np.array([0.25, np.nan, -2.0, 1.5])},
}
OPTIONS["all"] = {name: value for option in OPTIONS.values() for name, value in option.items()}


def loss_by_hand(
    hidden,
    weight,
    bias,
    labels,
    reduction,
    label_smoothing=0.0,
    logit_scale=1.0,
    logit_softcap=None,
    z_loss=0.0,
    class_weight=(1.0,) * 5,
    token_weight=(1.0,) * 4,
):
    """The contract's formula, one Python number at a time."""
    losses, denominator = [], 0.0
    for x, label, token in zip(hidden, labels, token_weight, strict=True):
        if label == -100:
            losses.append(0.0)
            continue
        logits = [logit_scale * (math.fsum(x * w) + b) for w, b in zip(weight, bias, strict=True)]
        if logit_softcap is not None:
            logits = [logit_softcap * math.tanh(logit / logit_softcap) for logit in logits]
        lse = math.log(math.fsum(map(math.exp, logits)))
        smooth = math.fsum(c * (lse - z) for c, z in zip(class_weight, logits, strict=True))
        loss = (1 - label_smoothing) * class_weight[label] * (lse - logits[label])
        loss += label_smoothing / len(logits) * smooth + z_loss * lse**2
        losses.append(token * loss)
        denominator += token * class_weight[label]
    if reduction == "none":
        return np.array(losses)
    return math.fsum(losses) / (denominator if reduction == "mean" else 1)


@pytest.mark.parametrize("vocab_axis", [0, 1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_loss(options, reduction, vocab_axis):
    hidden, weight, bias, labels = make_arrays()
    got = reference_linear_cross_entropy(
        hidden,
        weight if vocab_axis == 0 else weight.T,
        labels,
        bias=bias,
        vocab_axis=vocab_axis,
        reduction=reduction,
        **options,
    )
    expected = loss_by_hand(hidden, weight, bias, labels, reduction, **options)
    np.testing.assert_allclose(got.loss, expected, rtol=1e-14)


@pytest.mark.parametrize("vocab_axis", [0, 1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_gradients(options, reduction, vocab_axis):
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
        **options,
    )

    def objective():
        return np.sum(cotangent * loss_by_hand(hidden, weight, bias, labels, reduction, **options))

    grad_weight = got.grad_weight if vocab_axis == 0 else got.grad_weight.T
    for array, gradient in (
        (hidden, got.grad_hidden),
        (weight, grad_weight),
        (bias, got.grad_bias),
    ):
        np.testing.assert_allclose(gradient, central_differences(objective, array), atol=1e-8)


def test_aux():
    hidden, weight, bias, labels = make_arrays()
    options = OPTIONS["all"]
    aux = reference_linear_cross_entropy(hidden, weight, labels, bias=bias, **options).aux
    logits = 1.5 * np.tanh(-0.7 * (hidden @ weight.T + bias) / 1.5)
    logsumexp = np.log(np.exp(logits).sum(axis=1))
    counted = labels != -100
    every = np.arange(4)
    np.testing.assert_allclose(aux.logsumexp, np.where(counted, logsumexp, 0), rtol=1e-14)
    log_prob = logits[every, labels * counted] - logsumexp
    np.testing.assert_allclose(aux.log_prob, np.where(counted, log_prob, 0), rtol=1e-14)
    assert aux.prediction.tolist() == np.where(counted, logits.argmax(axis=1), -1).tolist()
    assert aux.num_tokens == 3


def test_losses_of_tokens_add_up_to_the_loss():
    hidden, weight, bias, labels = make_arrays()
    got = reference_linear_cross_entropy(
        hidden, weight, labels, bias=bias, reduction="sum", **OPTIONS["all"]
    )
    np.testing.assert_allclose(got.token_losses.sum(), got.loss, rtol=1e-15)


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


def flat(result):
    *arrays, aux = result
    return *arrays, *aux


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
    assert all((array == 0).all() for array in got[:4])


def test_mean_of_tokens_without_weight():
    """Nothing counts, so the mean is 0 and not 0 / 0."""
    hidden, weight, _, labels = make_arrays()
    got = reference_linear_cross_entropy(hidden, weight, labels, token_weight=np.zeros(4))
    assert all((array == 0).all() for array in got[:3])


def test_mean_of_classes_without_weight():
    """As in `torch.nn.functional.cross_entropy`: the tokens count, and 0 / 0 it is."""
    hidden, weight, _, labels = make_arrays()
    with np.errstate(divide="ignore", invalid="ignore"):
        got = reference_linear_cross_entropy(hidden, weight, labels, class_weight=np.zeros(5))
    assert np.isnan(got.loss)


def test_ignore_index_that_is_a_class():
    hidden, weight, bias, labels = make_arrays()
    renamed = np.where(labels == -100, 3, labels)  # 3 is nobody's label otherwise
    one = reference_linear_cross_entropy(hidden, weight, labels, bias=bias)
    other = reference_linear_cross_entropy(hidden, weight, renamed, bias=bias, ignore_index=3)
    for a, b in zip(flat(one), flat(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_blocks_of_tokens_do_not_show(monkeypatch):
    hidden, weight, bias, labels = make_arrays(num_tokens=11)
    options = {"bias": bias, "label_smoothing": 0.1, "z_loss": 0.1, "logit_softcap": 2.0}
    whole = reference_linear_cross_entropy(hidden, weight, labels, **options)
    monkeypatch.setattr(reference_module, "_BLOCK_BYTES", 2 * 8 * len(weight))  # two tokens
    blocks = reference_linear_cross_entropy(hidden, weight, labels, **options)
    for one, other in zip(flat(whole), flat(blocks), strict=True):
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
    for value, reference in zip(rounded[1:4], exact[1:4], strict=True):
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


@pytest.mark.parametrize("block_numbers", [1, 6, 7, 1000])
def test_relative_error_is_that_of_all_blocks(monkeypatch, block_numbers):
    """Also where a row is larger than a block, and whatever the dtypes."""
    monkeypatch.setattr(reference_module, "_ERROR_BLOCK_NUMBERS", block_numbers)
    reference = np.random.default_rng(0).standard_normal((10, 3))
    for value in (reference * 1.25, reference.astype(ml_dtypes.bfloat16)):
        error = value.astype(np.float64) - reference
        expected = math.sqrt((error**2).sum() / (reference**2).sum())
        assert relative_error(value, reference) == pytest.approx(expected, rel=1e-12)
        flat = relative_error(value.ravel(), reference.ravel())
        assert flat == pytest.approx(expected, rel=1e-12)


def test_relative_error_refuses_another_shape():
    with pytest.raises(ValueError, match=r"^value: expected shape \(2, 1\), got \(2,\)$"):
        relative_error(np.ones(2), np.ones((2, 1)))


@pytest.mark.parametrize(
    ("dtype", "floor"),
    [
        (np.float64, 5 * 2.0**-52),
        (np.float32, 5 * 2.0**-23),
        (np.float16, 2.0**-10 + 4 * 2.0**-23),
        (ml_dtypes.bfloat16, 2.0**-7 + 4 * 2.0**-23),
    ],
)
def test_fair_error(dtype, floor):
    """Twice the standard's own error, and a floor in units of what is returned."""
    assert fair_error(0.0, dtype) == floor
    assert fair_error(0.5, dtype) == 1.0 + floor


def test_fair_error_of_nan_is_nan():
    assert np.isnan(fair_error(np.nan, np.float32))


def test_options_do_not_widen_float32():
    """NumPy would make float64 of an array and a NumPy scalar."""
    hidden, weight, bias, labels = make_arrays()
    got = reference_linear_cross_entropy(
        hidden, weight, labels, bias=bias, compute_dtype=np.float32, **OPTIONS["all"]
    )
    assert {array.dtype for array in flat(got)[:7]} == {np.dtype(np.float32)}
