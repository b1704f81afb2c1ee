"""What is said of a case's memory beforehand is what the probes then read."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from harness.cases import Measurement, Shape, make_case
from harness.prediction.memory import peak_bytes
from harness.prediction.packing import Value, packed_bytes
from harness.reference import inputs_of
from loss_spec import FLOAT_DTYPES

MEASUREMENT = Measurement(warmup=0, repeats=1, timeout_s=60, device="cpu", memory_limit_gib=None)

# Batch, sequence, D, V. What holds the peak differs: the logits, the widened operands, the
# gradients, and which of them finds room in a result's place.
SHAPES = {
    "logits are most": (2, 512, 64, 2048),
    "ragged": (3, 341, 63, 2053),
    "D above V and N": (1, 128, 1024, 96),
    "D above V": (8, 256, 512, 300),
    "one tile of V": (2, 64, 768, 128),
    "few tokens": (4, 1, 512, 4096),
    "few tokens, ragged": (1, 7, 256, 5003),
    "no gap is large enough": (2, 200, 333, 1001),
}
# PyTorch's CPU kernels pack 16-bit operands in a room of their own: seen where the peak is there.
KERNEL_ROOM_BYTES = {("torch", "bfloat16"): 2**19, ("torch", "float16"): 2**19}


@pytest.fixture(params=["torch", "jax"])
def backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The harness's module for a framework, whose settings it may change."""
    framework = pytest.importorskip(request.param)
    module = importlib.import_module(f"harness.backends.{request.param}_backend")
    if request.param == "torch":
        threads = framework.get_num_threads()
        framework.set_num_threads(1)  # each packs for itself
        yield module
        framework.set_num_threads(threads)
    else:
        enable_x64 = framework.config.jax_enable_x64
        yield module
        framework.config.update("jax_enable_x64", enable_x64)


@pytest.mark.parametrize("dtype", FLOAT_DTYPES)
@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_peak_of_the_standard_loss(backend: Any, sizes: tuple[int, ...], dtype: str) -> None:
    batch_size, seq_len, hidden_dim, vocab_size = sizes
    shape = Shape(
        batch_size=batch_size, seq_len=seq_len, hidden_dim=hidden_dim, vocab_size=vocab_size,
        dtype=dtype, ignored_fraction=0.1, seed=0,
    )  # fmt: skip
    framework = "torch" if backend.__name__.endswith("torch_backend") else "jax"
    case = make_case(framework, "standard", shape, MEASUREMENT, {})
    figures = backend.build(case, inputs_of(shape), "cpu").measure_memory()
    measured = figures.inputs_bytes + figures.readings[0].additional_bytes
    predicted = peak_bytes(case)
    ends_with_a_matmul = shape.gradients_bytes > 3 * shape.logits_bytes
    room = KERNEL_ROOM_BYTES.get((framework, dtype), 0) if ends_with_a_matmul else 0
    assert measured * 0.99 - room <= predicted <= measured * 1.01, f"{measured=:,} {predicted=:,}"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 0),
        ([Value(8, 0, 1), Value(8, 2, 3)], 8),  # one after the other
        ([Value(8, 0, 1), Value(8, 1, 2)], 16),  # read by what computes the other
        ([Value(8, 0, 1), Value(4, 2, 3), Value(3, 2, 3)], 8),  # two in the place of one
        ([Value(8, 0, 1), Value(4, 2, 3), Value(5, 2, 3)], 9),  # the gap is too small
        ([Value(8, 0, 1), Value(6, 2, 2, is_result=True)], 14),  # no result is large enough
        ([Value(5, 0, 1), Value(6, 2, 2, is_result=True)], 6),
        ([Value(5, 0, 2), Value(6, 2, 2, is_result=True)], 11),  # needed to write the result
        ([Value(5, 0, 1), Value(4, 1, 1), Value(6, 2, 2, is_result=True)], 10),
        # The tighter of two results is taken, although it is the only one for the next value.
        (
            [
                Value(4, 0, 1), Value(3, 1, 3),
                Value(6, 2, 9, is_result=True), Value(4, 5, 9, is_result=True),
            ],
            13,
        ),
        # And so is the tighter of two gaps, between values that live on.
        (
            [
                Value(10, 0, 1), Value(9, 0, 9), Value(8, 0, 1), Value(8, 0, 9),
                Value(8, 2, 3), Value(7, 2, 3), Value(3, 2, 3),
            ],
            35,
        ),
    ],
)  # fmt: skip
def test_packing(values: list[Value], expected: int) -> None:
    assert packed_bytes(values) == expected
