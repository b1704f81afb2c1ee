"""What is said of a case's memory beforehand is what the probes then read."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest

from harness.cases import Measurement, Shape, make_case
from harness.prediction.full_logits import narrow_logits_bytes
from harness.prediction.memory import peak_bytes
from harness.prediction.packing import Value, packed_bytes
from harness.reference import inputs_of
from loss_spec import FLOAT_DTYPES
from loss_spec.cpu import matmul_instructions
from tests.tables import optimized

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
NARROW = ("float16", "bfloat16")
MARKS = {
    "few tokens": pytest.mark.cpu_kind("what oneDNN takes for itself shows in the peak"),
    "few tokens, ragged": pytest.mark.cpu_kind("what oneDNN takes for itself shows in the peak"),
    "no gap is large enough": optimized,
}
every_shape = pytest.mark.parametrize(
    "sizes",
    [pytest.param(SHAPES[name], id=name, marks=MARKS.get(name, ())) for name in SHAPES],
)


def kernel_room_bytes(framework: str, shape: Shape) -> int:
    """What oneDNN takes for itself while it makes dX, the last product, of 16-bit matrices."""
    if framework != "torch" or shape.dtype not in NARROW:
        return 0
    instructions = matmul_instructions("torch")
    if shape.dtype == "bfloat16" and instructions == "avx512":
        # It has none for bfloat16, and adds the product up in float32 before it rounds it: dX,
        # or dW when dX is not there yet.
        return 4 * max(shape.num_tokens, shape.vocab_size) * shape.hidden_dim
    # A part of the weight in another order: 64 columns of up to 1024 rows.
    room = 2**19
    if shape.dtype == "bfloat16" and instructions == "amx":
        # There of all V rows, and of as many columns as three quarters of a core's L2 cache of
        # 2 MiB have room for: 128 where V is largest here. The rest is tiles, and where V is
        # ragged a copy of the gradient of the logits.
        room = max(room, 2 * 128 * shape.vocab_size + 2**16)
    return room


@pytest.fixture(params=["torch", pytest.param("jax", marks=optimized)])
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
@every_shape
def test_peak_of_the_standard_loss(
    backend: Any, sizes: tuple[int, ...], dtype: str, request: pytest.FixtureRequest
) -> None:
    batch_size, seq_len, hidden_dim, vocab_size = sizes
    shape = Shape(
        batch_size=batch_size, seq_len=seq_len, hidden_dim=hidden_dim, vocab_size=vocab_size,
        dtype=dtype, ignored_fraction=0.1, seed=0,
    )  # fmt: skip
    framework = "torch" if backend.__name__.endswith("torch_backend") else "jax"
    is_reordered = framework == "jax" and not request.config.getoption("xla_optimized")
    if is_reordered and shape.dtype in NARROW and sizes == SHAPES["no gap is large enough"]:
        pytest.skip("--xla_optimized: otherwise XLA runs it in another order, which has a gap")
    case = make_case(framework, "standard", shape, MEASUREMENT, {})
    figures = backend.build(case, inputs_of(shape), "cpu").measure_memory()
    measured = figures.inputs_bytes + figures.readings[0].additional_bytes
    predicted = peak_bytes(case)
    # Allocated when the last gradient is made: where the kernels' own room may top the peak.
    in_last_matmul = shape.inputs_bytes + narrow_logits_bytes(shape) + shape.gradients_bytes
    bound = max(predicted, in_last_matmul + kernel_room_bytes(framework, shape))
    assert measured * 0.99 <= bound, f"{measured=:,} {predicted=:,} {bound=:,}"
    assert predicted <= measured * 1.01, f"{measured=:,} {predicted=:,}"


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
