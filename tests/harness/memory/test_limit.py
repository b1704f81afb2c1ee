"""A limit on the arrays of a step, and what the frameworks say where it is too small."""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from harness.measure import OverLimitError, limited
from harness.memory.limit import data_limit
from harness.workload import Workload
from tests.harness.conftest import ROOT
from tests.harness.memory.limited_step import INPUTS_MIB, LIMIT_MIB

LEFT_MIB = LIMIT_MIB - INPUTS_MIB


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_little_under_and_over(framework: str) -> None:
    sizes = [str(LEFT_MIB - 8), str(LEFT_MIB + 1)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.harness.memory.limited_step", framework, *sizes],
        capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "8"},  # their stacks are not the step's
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["ran", "out of memory"]


def test_none_is_no_limit() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with data_limit(None, 0):
        assert resource.getrlimit(resource.RLIMIT_DATA) == before


def raised_by(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def torch_errors(torch: Any) -> list[tuple[BaseException, bool]]:
    """Real ones where a CPU has them, and whether each is for want of memory."""
    return [
        (raised_by(lambda: torch.empty(2**50)), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("could not create a primitive descriptor for the matmul primitive"), False),
        (raised_by(lambda: torch.empty(2**63 - 1)), False),
        (raised_by(lambda: torch.ones(2, 3) @ torch.ones(2, 3)), False),
        (raised_by(lambda: torch.zeros(1)[2]), False),
    ]


def jax_errors(jax: Any) -> list[tuple[BaseException, bool]]:
    error, ones = jax.errors.JaxRuntimeError, jax.numpy.ones
    return [
        (raised_by(lambda: ones(2**45)), True),
        (
            error("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."),
            True,
        ),
        (error("INTERNAL: Failed to allocate 98697216 bytes for new constant"), True),
        (error("INTERNAL: Failed to load in-memory CUBIN: CUDA_ERROR_OUT_OF_MEMORY"), True),
        (error("INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access"), False),
        (raised_by(lambda: ones((2, 3)) @ ones((2, 3))), False),
        (raised_by(lambda: jax.devices("nonsense")), False),
    ]


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_want_of_memory_is_told_from_other_failures(framework: str) -> None:
    errors = {"torch": torch_errors, "jax": jax_errors}[framework](pytest.importorskip(framework))
    backend = importlib.import_module(f"harness.backends.{framework}_backend")
    for error, expected in errors:
        assert backend.is_out_of_memory(error) is expected, error


class Step:
    """Fails in each way in which a step can; counts how often it was asked to run."""

    def __init__(self, fails_when: Callable[[], bool], message: str) -> None:
        self.fails_when, self.message, self.runs = fails_when, message, 0

    def __call__(self) -> tuple[()]:
        self.runs += 1
        if self.fails_when():
            raise RuntimeError(self.message)
        return ()

    def workload(self) -> Workload:
        return Workload(
            step=self,
            trace=lambda directory: None,
            is_out_of_memory=lambda error: "no memory" in str(error),
            to_numpy=lambda array: array,
            inputs_bytes=0,
        )


def is_under_limit() -> bool:
    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("fails_when", "message", "limit_bytes", "raised", "runs"),
    [
        # oneDNN's words, seen where a matmul had no room to pack its operands.
        (is_under_limit, "could not create a primitive", 2**40, OverLimitError, 2),
        (lambda: True, "could not create a primitive", 2**40, RuntimeError, 2),
        (lambda: True, "could not create a primitive", None, RuntimeError, 1),
        # Where the framework says what was missing, a second step would only take time.
        (is_under_limit, "no memory left", 2**40, RuntimeError, 1),
    ],
)
def test_what_fails_under_the_limit_gets_a_second_step(
    fails_when: Callable[[], bool],
    message: str,
    limit_bytes: int | None,
    raised: type[Exception],
    runs: int,
) -> None:
    assert not is_under_limit()
    step = Step(fails_when, message)
    with pytest.raises(raised) as caught, limited(step.workload(), limit_bytes):
        step()
    assert message in str(caught.value.__cause__ or caught.value)
    assert step.runs == runs


def test_numpy_keeps_to_the_limit_too() -> None:
    code = (
        "import numpy as np; from harness.memory.limit import data_limit\n"
        "with data_limit(100 * 2**20, 0): np.ones(101 * 2**20, np.uint8)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "Unable to allocate 101. MiB" in done.stderr
