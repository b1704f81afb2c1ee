"""What the parent works out of a loss's plan, without a framework, is what the loss says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from harness.cases import Measurement, Shape, make_case
from harness.plans import plan_of, plan_of_loss
from loss_spec import FLOAT_DTYPES

MEASUREMENT = Measurement(warmup=0, repeats=1, timeout_s=60, device="cpu", memory_limit_gib=None)


def empty_arrays(framework: str, shape: Shape) -> tuple[Any, Any, Any]:
    """Hidden, weight and labels, of which the plan sees no number."""
    tokens = shape.batch_size, shape.seq_len
    hidden_shape, weight_shape = (*tokens, shape.hidden_dim), (shape.vocab_size, shape.hidden_dim)
    if framework == "torch":
        torch = pytest.importorskip("torch")
        dtype = getattr(torch, shape.dtype)
        hidden, weight = (
            torch.empty(sizes, dtype=dtype, requires_grad=True)
            for sizes in (hidden_shape, weight_shape)
        )
        return hidden, weight, torch.empty(tokens, dtype=torch.int32)
    jax = pytest.importorskip("jax")
    hidden, weight = (jax.ShapeDtypeStruct(s, shape.dtype) for s in (hidden_shape, weight_shape))
    return hidden, weight, jax.ShapeDtypeStruct(tokens, "int32")


@pytest.mark.cpu_kind("it decides whether 16-bit operands are widened, and so the tiles")
@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_the_parent_plans_as_the_loss_does(framework: str, dtype: str) -> None:
    shape = Shape(
        batch_size=2, seq_len=512, hidden_dim=256, vocab_size=8192, dtype=dtype,
        ignored_fraction=0.0, seed=0,
    )  # fmt: skip
    case = make_case(framework, "chunked", shape, MEASUREMENT, {"memory_budget": 2**24})
    said = plan_of_loss(case, *empty_arrays(framework, shape))
    assert said == dataclasses.asdict(plan_of(framework, "cpu", shape, case.options))
