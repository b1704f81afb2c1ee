"""With bfloat16 inputs every matmul is one of bfloat16 on tensor cores, by its kernel's name.

So are all four of two passes, or three of one: also those whose result is float32.
"""

from __future__ import annotations

import pytest

from tests.gpu import jax_steps, torch_steps
from tests.gpu.own_process import in_own_process
from tests.gpu_profiles.device_profile import kernels
from tests.gpu_profiles.kernels import is_matmul, matmul_operands, operand_dtype, uses_tensor_cores

SHAPE = 2048, 1024, 16384
every_strategy = pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])


def matmuls(events):
    """The names of the kernels that multiply matrices."""
    found = sorted({event.name for event in kernels(events) if is_matmul(event.name)})
    assert found, sorted({event.name for event in kernels(events)})
    return found


@every_strategy
def test_torch_in_bfloat16(strategy):
    options = {"strategy": strategy}
    events = in_own_process(torch_steps.profiled, SHAPE, "bfloat16", options)
    names = matmuls(events)
    assert {(operand_dtype(name), uses_tensor_cores(name)) for name in names} == {
        ("bfloat16", True)
    }, names


def test_torch_in_float32():
    """Not rounded to TF32; and other units would have been seen."""
    events = in_own_process(torch_steps.profiled, SHAPE, "float32", {"strategy": "two_pass"})
    names = matmuls(events)
    assert {(operand_dtype(name), uses_tensor_cores(name)) for name in names} == {
        ("float32", False)
    }, names


@every_strategy
def test_jax_in_bfloat16(strategy):
    """What the program multiplies, and what the names say where they say something."""
    options = {"strategy": strategy}
    events, hlo = in_own_process(jax_steps.profiled, SHAPE, "bfloat16", options)
    assert matmul_operands(hlo) == {("bf16", "bf16")}
    names = matmuls(events)
    assert {operand_dtype(name) for name in names} <= {"bfloat16", None}, names
    assert not any(uses_tensor_cores(name) is False for name in names), names


def test_jax_in_float32():
    """Not rounded to TF32, as the suite asks it."""
    events, hlo = in_own_process(jax_steps.profiled, SHAPE, "float32", {"strategy": "two_pass"})
    assert matmul_operands(hlo) == {("f32", "f32")}
    names = matmuls(events)
    assert not any(uses_tensor_cores(name) for name in names), names
