"""What a worker's process starts with."""

from __future__ import annotations

import pytest

from harness import scheduler
from harness.cases import Measurement, Shape, make_case
from harness.scheduler import worker_environment

SHAPE = Shape(
    batch_size=1, seq_len=1, hidden_dim=1, vocab_size=2, dtype="float32", ignored_fraction=0.0,
    seed=0,
)  # fmt: skip
GIB = 2**30


def environment(framework, device, limit_gib=None):
    measurement = Measurement(
        warmup=0, repeats=1, timeout_s=1.0, device=device, memory_limit_gib=limit_gib
    )
    return worker_environment(make_case(framework, "chunked", SHAPE, measurement, {}))


@pytest.fixture
def an_h100(monkeypatch):
    monkeypatch.setattr(scheduler, "gpu_memory_bytes", lambda: 80 * GIB)


@pytest.mark.usefixtures("an_h100")
@pytest.mark.parametrize(("limit_gib", "share"), [(None, 0.97), (16.0, 0.2), (99.0, 1.0)])
def test_how_much_of_a_gpu_jax_may_take(limit_gib, share):
    """By itself XLA would take no more than three quarters, where PyTorch takes all."""
    found = environment("jax", "gpu", limit_gib)
    assert float(found["XLA_CLIENT_MEM_FRACTION"]) == pytest.approx(share)
    assert found["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


@pytest.mark.usefixtures("an_h100")
@pytest.mark.parametrize(("framework", "device"), [("torch", "gpu"), ("jax", "cpu")])
def test_nobody_else_is_told(framework, device):
    assert "XLA_CLIENT_MEM_FRACTION" not in environment(framework, device, 16.0)


def test_a_cpu_case_does_not_see_a_gpu():
    assert environment("torch", "cpu")["CUDA_VISIBLE_DEVICES"] == ""
    assert environment("jax", "cpu")["JAX_PLATFORMS"] == "cpu"
    assert environment("jax", "gpu")["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
