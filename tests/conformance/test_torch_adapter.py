"""The adapter of PyTorch puts everything on one device, the one that it is told.

Seen on the meta device, where there are shapes and no numbers, and where a tensor that was
left on the CPU is refused as on a GPU.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.conformance import torch_adapter
from harness.conformance.problem import make_problem
from torch_impl import linear_cross_entropy, standard_linear_cross_entropy

pytestmark = [
    pytest.mark.cpu_only("there the other tests show it"),
    # PyTorch's own, from the first use of forward mode in a process.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
]


@pytest.fixture
def problem(monkeypatch):
    """With everything that is an array, and results that stay tensors."""
    monkeypatch.setattr(torch_adapter, "DEVICE", "meta")
    monkeypatch.setattr(torch_adapter, "to_numpy", lambda tensor: tensor)
    return make_problem(has_class_weight=True, has_token_weight=True, reduction="none")


def devices(*results):
    return {tensor.device.type for tensor in results}


def test_without_a_gpu_that_is_the_cpu():
    assert torch_adapter.DEVICE == "cpu"


@pytest.mark.parametrize("function", [linear_cross_entropy, standard_linear_cross_entropy])
def test_loss_aux_and_gradients(problem, function):
    problem = problem.but(options=problem.options | {"return_aux": True})
    loss, aux, pull = torch_adapter.differentiate(function, problem)
    assert devices(loss, *aux, *pull(problem.cotangent).values()) == {"meta"}


def test_a_call(problem):
    arrays = problem.hidden, problem.weight, problem.labels
    options = problem.arrays | {"reduction": "none"}
    assert devices(torch_adapter.call(linear_cross_entropy, *arrays, **options)) == {"meta"}


def test_functional_gradient(problem):
    loss, found = torch_adapter.functional_gradient(linear_cross_entropy, problem)
    assert devices(loss, *found.values()) == {"meta"}


def test_derivatives_in_a_direction(problem):
    """Those that the chunked loss refuses, by the standard one."""
    tangents = {name: np.ones_like(getattr(problem, name)) for name in problem.needs}
    summed = problem.but(options=problem.options | {"reduction": "mean"})
    function = standard_linear_cross_entropy
    assert devices(torch_adapter.forward_mode(function, problem, tangents)) == {"meta"}
    second = torch_adapter.gradient_in_direction(function, summed, tangents)
    assert devices(*second.values()) == {"meta"}


def test_what_is_left_on_the_cpu_is_refused(problem):
    """Or the tests above would show nothing."""
    loss, _, _ = torch_adapter.differentiate(linear_cross_entropy, problem)
    with pytest.raises(RuntimeError, match="device"):
        torch.autograd.grad(loss, loss, torch.ones(loss.shape))
