"""What is said of an allocation that failed: its size, what it was for, and who asked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cases import BREAKING_POINT, Measurement, Shape, make_case
from harness.memory.failed_allocation import failed_allocation, is_of_a_loss
from tests.harness.conftest import ROOT
from tests.tables import optimized

# [N, V] in float32 is 8192 * 128256 * 4 bytes: 3.914 GiB, 4008 MiB.
SHAPE = Shape(
    batch_size=4, seq_len=2048, hidden_dim=4096, vocab_size=128256, dtype="bfloat16",
    ignored_fraction=0.0, seed=0,
)  # fmt: skip
PARTS = {17179869184: "all temporaries of the compiled step"}
MESSAGES = {
    "PyTorch, CPU": (
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
        "memory: you tried to allocate 4202692608 bytes. Error code 12 (Cannot allocate memory)",
        "4,008.0 MiB, as much as [N, V] in float32",
    ),
    "PyTorch, CUDA": (
        "CUDA out of memory. Tried to allocate 3.91 GiB. GPU 0 has a total capacity of 23.65 GiB "
        "of which 11.06 MiB is free. Including non-PyTorch memory, this process has 23.60 GiB "
        "memory in use. Of the allocated memory 22.90 GiB is allocated by PyTorch",
        "4,003.8 MiB, as much as [N, V] in float32",
    ),
    "PyTorch, CUDA, in MiB": (
        "CUDA out of memory. Tried to allocate 64.00 MiB (GPU 0; 2.00 GiB total capacity; 788.51 "
        "MiB already allocated; 45.93 MiB free; 1.02 GiB reserved in total by PyTorch)",
        "64.0 MiB, as much as [N, D] in bfloat16",
    ),
    "JAX, CPU": (
        "RESOURCE_EXHAUSTED: Out of memory allocating 1050673152 bytes.",
        "1,002.0 MiB, as much as [V, D] in bfloat16",
    ),
    "JAX, GPU": (
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes.",
        "16,384.0 MiB, all temporaries of the compiled step",
    ),
    "JAX, GPU, rounded": (
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 16.00GiB.",
        "16,384.0 MiB, all temporaries of the compiled step",
    ),
    "JAX, GPU, a request": (
        "RESOURCE_EXHAUSTED: Failed to allocate request for 3.91GiB (4202692608B) on device "
        "ordinal 0",
        "4,003.8 MiB, as much as [N, V] in float32",
    ),
    "JAX, GPU, a constant": (
        "INTERNAL: Failed to allocate 98697216 bytes for new constant",
        "94.1 MiB",
    ),
    "NumPy": (
        "Unable to allocate 128. TiB for an array with shape (35184372088832,) and data type "
        "float32",
        "134,217,728.0 MiB",
    ),
    "rounded up": (
        "you tried to allocate 4202696704 bytes",
        "4,008.0 MiB, as much as [N, V] in float32",
    ),
    "a little less": ("you tried to allocate 4202692607 bytes", "4,008.0 MiB"),
    "a unit of another library": ("cannot allocate 3 tensors", ""),
    "no size": ("std::bad_alloc", ""),
    "no number": ("Cannot allocate memory", ""),
}  # fmt: skip


@pytest.mark.parametrize(("message", "expected"), MESSAGES.values(), ids=MESSAGES)
def test_messages(message: str, expected: str) -> None:
    assert failed_allocation(RuntimeError(message), SHAPE, PARTS) == expected


@pytest.mark.parametrize(
    ("num_tokens", "vocab_size", "array"),
    [(100_100, 100_000, "[N, D]"), (100_000, 100_100, "[V, D]")],
)
def test_closest_array_counts(num_tokens: int, vocab_size: int, array: str) -> None:
    """V and N differ by less than the two decimals of a message show."""
    shape = Shape(
        batch_size=1, seq_len=num_tokens, hidden_dim=16_384, vocab_size=vocab_size,
        dtype="float32", ignored_fraction=0.0, seed=0,
    )  # fmt: skip
    error = RuntimeError("CUDA out of memory. Tried to allocate 6.11 GiB.")
    assert failed_allocation(error, shape, {}) == f"6,256.6 MiB, as much as {array} in float32"


# [N, V] in float32 takes 16 MiB, [V, D] 8 MiB.
SMALL = Shape(
    batch_size=2, seq_len=256, hidden_dim=256, vocab_size=8192, dtype="float32",
    ignored_fraction=0.0, seed=0,
)  # fmt: skip
OURS = r"\w+ \(torch_impl/(?!buffers)\w+\.py:\d+\)$"
LOGITS = r"16\.0 MiB, as much as \[N, V\] in float32"
# Variant, MiB that a step may take beyond its inputs, and what is said. JAX
# allocates the results, of 8.5 MiB, first.
WHO = {
    "torch": [
        ("standard", 8, LOGITS + r"; standard \(torch_impl/standard"),
        ("standard", 24, LOGITS + r"; standard \(torch_impl/standard"),  # its softmax
        ("standard", 44, LOGITS + "; the backward pass$"),
        ("chunked", 0, r"4\.0 MiB; " + OURS),
        ("two_pass", 12, r".*\[V, D\] in float32; " + OURS),
    ],
    "jax": [
        ("standard", 20, r"32\.0 MiB, all temporaries of the compiled step$"),
        ("chunked", 12, r"7\.\d MiB, all temporaries of the compiled step$"),
    ],
}


@optimized
@pytest.mark.parametrize("framework", WHO)
def test_who_asked(framework: str) -> None:
    """Of steps in a process of their own, one after the other (limited_cases.py)."""
    cases = []
    for variant, limit_mib, _ in WHO[framework]:
        limit_bytes = SMALL.inputs_bytes + limit_mib * 2**20
        measurement = Measurement(
            warmup=0, repeats=1, timeout_s=60, device="cpu", memory_limit_gib=limit_bytes / 2**30
        )
        case = make_case(framework, variant, SMALL, measurement, {}, mode=BREAKING_POINT)
        cases.append(case.to_json())
    done = subprocess.run(
        [sys.executable, "-m", "tests.harness.memory.limited_cases"],
        input=json.dumps(cases), capture_output=True, text=True, cwd=ROOT, check=True,
        # Every array of a mapping of its own: what an earlier case has freed is no room.
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
    )  # fmt: skip
    failures = json.loads(done.stdout)
    for (variant, limit_mib, expected), failure in zip(WHO[framework], failures, strict=True):
        assert failure is not None, f"{variant} runs in {limit_mib} MiB"
        assert failure["status"] == "oom", failure
        assert re.match(expected, failure["error"]["allocation"]), (variant, limit_mib, failure)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("torch_impl/standard.py", True),
        ("harness/variants/torch_peers.py", True),
        ("tests/harness/broken_losses.py", True),
        ("harness/measure.py", False),
        ("environment/lib/python3.12/site-packages/torch/nn/functional.py", False),
    ],
)
def test_whose_lines_are_of_a_loss(path: str, expected: bool) -> None:
    assert is_of_a_loss(Path(path)) is expected
