"""What only PyTorch can get wrong: no tensor, or tensors of several devices."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from torch_impl import linear_cross_entropy, standard_linear_cross_entropy

FUNCTIONS = [linear_cross_entropy, standard_linear_cross_entropy]


def make_arrays():
    return {
        "hidden": torch.ones(3, 4),
        "weight": torch.ones(5, 4),
        "labels": torch.zeros(3, dtype=torch.int64),
        "bias": torch.ones(5),
    }


NO_TENSOR = {
    "hidden": (np.ones((3, 4), np.float32), "ndarray"),
    "weight": ([[1.0] * 4] * 5, "list"),
    "labels": (np.zeros(3, np.int64), "ndarray"),
    "bias": (1.0, "float"),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", NO_TENSOR)
def test_not_a_tensor(name, function):
    value, type_name = NO_TENSOR[name]
    expected = f"{name}: expected a torch.Tensor, got {type_name}"
    with pytest.raises(TypeError, match=f"^{re.escape(expected)}$"):
        function(**{**make_arrays(), name: value})


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", ["hidden", "weight", "labels"])
def test_none_where_an_array_must_be(name, function):
    with pytest.raises(TypeError, match=f"^{name}: expected a torch.Tensor, got NoneType$"):
        function(**{**make_arrays(), name: None})


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", ["weight", "labels", "bias"])
def test_another_device(name, function):
    arrays = make_arrays()
    expected = arrays["hidden"].device
    arrays[name] = arrays[name].to("meta")
    with pytest.raises(ValueError, match=f"^{name}: expected device {expected}, got meta$"):
        function(**arrays)


def test_device_without_autocast():
    """Shapes and dtypes alone, on the meta device."""
    arrays = {name: array.to("meta") for name, array in make_arrays().items()}
    loss = standard_linear_cross_entropy(**arrays, reduction="none")
    assert (loss.shape, loss.dtype, loss.device.type) == ((3,), torch.float32, "meta")
