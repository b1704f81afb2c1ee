"""The answer worked out with PyTorch is that of NumPy, here on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from harness import gpu_reference
from loss_spec import reference as numpy_reference
from loss_spec.inputs import IGNORE_INDEX, Inputs, make_inputs
from loss_spec.reference import reference_linear_cross_entropy, relative_error

NAMES = ("loss", "grad_hidden", "grad_weight")
DTYPES = ("float64", "float32", "bfloat16", "float16")
# Seven tokens of this vocabulary are a block, so that five blocks and a ragged one come out.
VOCAB_SIZE = 190
BLOCK_TOKENS = 7


def inputs(dtype: str, ignored_fraction: float = 0.25) -> Inputs:
    return make_inputs(
        seed=5,
        num_tokens=51,
        hidden_dim=24,
        vocab_size=VOCAB_SIZE,
        dtype=dtype,
        ignored_fraction=ignored_fraction,
    )


def answer(given: Inputs, **computing: Any) -> gpu_reference.Answer:
    return gpu_reference.linear_cross_entropy(*given, device="cpu", **computing)


@pytest.fixture(params=["one block", "ragged blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "ragged blocks":
        for module in (gpu_reference, numpy_reference):
            monkeypatch.setattr(module, "_BLOCK_BYTES", BLOCK_TOKENS * VOCAB_SIZE * 8)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("ignored_fraction", [0.0, 0.25])
@pytest.mark.parametrize("dtype", DTYPES)
def test_float64_is_that_of_numpy(dtype: str, ignored_fraction: float) -> None:
    given = inputs(dtype, ignored_fraction)
    found, expected = answer(given), reference_linear_cross_entropy(*given)
    for name in NAMES:
        value, exact = getattr(found, name), getattr(expected, name)
        assert (value.dtype, value.shape) == (np.float64, exact.shape)
        assert relative_error(value, exact) < 1e-14, name


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rounds_where_numpy_rounds(dtype: str) -> None:
    """Number for number, but for those at the edge between two: sums have another order.

    In float32 all of the error comes from that order, which depends on the processor.
    """
    given = inputs(dtype)
    exact = reference_linear_cross_entropy(*given)
    rounding: dict[str, Any] = {"compute_dtype": np.float32, "round_to": given.hidden.dtype}
    found = answer(given, **rounding)
    expected = reference_linear_cross_entropy(*given, **rounding)
    for name in NAMES:
        value, standard = getattr(found, name), getattr(expected, name)
        assert value.dtype == np.float32
        if name == "loss":  # a single number, whose error is a matter of luck
            assert value == pytest.approx(standard, rel=1e-6)
            continue
        ratio = relative_error(value, getattr(exact, name)) / relative_error(
            standard, getattr(exact, name)
        )
        room = 2.0 if dtype == "float32" else 1.02
        assert 1 / room < ratio < room
        assert np.array_equal(value, value.astype(given.hidden.dtype).astype(np.float32))
        if dtype != "float32":
            assert np.mean(value != standard) < 0.02


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_no_token_counts(dtype: str) -> None:
    given = inputs(dtype, 1.0)
    assert np.all(given.labels == IGNORE_INDEX)
    found = answer(given)
    assert all(np.array_equal(value, np.zeros(value.shape)) for value in found)
    assert (found.grad_hidden.shape, found.grad_weight.shape) == ((51, 24), (VOCAB_SIZE, 24))


def test_ignored_rows_are_not_read() -> None:
    given = inputs("float64")
    ignored = given.labels == IGNORE_INDEX
    broken = given.hidden.copy()
    broken[ignored] = np.nan
    found = answer(given._replace(hidden=broken))
    assert all(np.array_equal(*pair) for pair in zip(found, answer(given), strict=True))
    assert np.all(found.grad_hidden[ignored] == 0)
    assert np.all(np.any(found.grad_hidden[~ignored] != 0, axis=1))


def test_no_tf32() -> None:
    """Whatever the process was told before."""
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        answer(inputs("float32"), compute_dtype=np.float32)
        assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.set_float32_matmul_precision(before)
