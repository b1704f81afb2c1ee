"""Seeded inputs: the same bits for the same seed, and of the size they claim."""

from __future__ import annotations

import numpy as np
import pytest

from loss_spec import FLOAT_DTYPES, inputs
from loss_spec.inputs import IGNORE_INDEX, make_inputs, numpy_dtype

SHAPE = {"num_tokens": 200, "hidden_dim": 64, "vocab_size": 300}


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_same_seed_same_bits(dtype):
    one, other = (make_inputs(seed=3, dtype=dtype, **SHAPE) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert a.tobytes() == b.tobytes()


def test_another_seed_other_bits():
    one, other = (make_inputs(seed=seed, dtype="float32", **SHAPE) for seed in (3, 4))
    for a, b in zip(one, other, strict=True):
        assert (a != b).any()


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
def test_shapes_and_dtypes(dtype):
    hidden, weight, labels = make_inputs(seed=0, dtype=dtype, **SHAPE)
    assert (hidden.shape, hidden.dtype) == ((200, 64), numpy_dtype(dtype))
    assert (weight.shape, weight.dtype) == ((300, 64), numpy_dtype(dtype))
    assert (labels.shape, labels.dtype) == ((200,), np.int32)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_inputs_are_the_wide_ones_rounded_once(dtype):
    wide = make_inputs(seed=0, dtype="float32", **SHAPE)
    narrow = make_inputs(seed=0, dtype=dtype, **SHAPE)
    for a, b in zip(wide[:2], narrow[:2], strict=True):
        np.testing.assert_array_equal(a.astype(numpy_dtype(dtype)), b)


def test_logits_are_about_standard_normal():
    hidden, weight, labels = make_inputs(seed=0, dtype="float64", **SHAPE)
    assert (hidden @ weight.T).std() == pytest.approx(1, rel=0.05)
    assert labels.min() >= 0
    assert labels.max() < SHAPE["vocab_size"]


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.4, 80), (0.9999, 200), (1.0, 200)])
def test_ignored_fraction(fraction, count):
    inputs = make_inputs(seed=0, dtype="float32", ignored_fraction=fraction, **SHAPE)
    assert (inputs.labels == IGNORE_INDEX).sum() == count


def test_ignored_fraction_leaves_the_rest_alone():
    none, some = (
        make_inputs(seed=0, dtype="float32", ignored_fraction=fraction, **SHAPE)
        for fraction in (0.0, 0.4)
    )
    np.testing.assert_array_equal(none.hidden, some.hidden)
    kept = some.labels != IGNORE_INDEX
    np.testing.assert_array_equal(none.labels[kept], some.labels[kept])
    assert np.diff(np.flatnonzero(~kept)).max() > 1  # spread, not a block


@pytest.mark.parametrize("name", FLOAT_DTYPES)
def test_numpy_dtype(name):
    assert numpy_dtype(name).name == name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_large_arrays_are_drawn_in_blocks_that_differ(dtype, monkeypatch):
    """By threads, whose order is no matter; what fits into one block does not change."""
    whole = make_inputs(seed=0, dtype=dtype, **SHAPE)
    monkeypatch.setattr(inputs, "_BLOCK_NUMBERS", 10 * SHAPE["hidden_dim"])
    one, other = (make_inputs(seed=0, dtype=dtype, **SHAPE) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert a.tobytes() == b.tobytes()
    blocks = one.weight.astype(np.float64).reshape(-1, 10, SHAPE["hidden_dim"])
    assert len(np.unique(blocks.reshape(len(blocks), -1), axis=0)) == len(blocks)
    assert not np.isin(blocks[1], one.hidden.astype(np.float64)).all()
    np.testing.assert_array_equal(one.hidden[:10], whole.hidden[:10])
    assert blocks.std() == pytest.approx(SHAPE["hidden_dim"] ** -0.5, rel=0.02)
