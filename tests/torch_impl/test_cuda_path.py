"""The path of CUDA, on a machine without: no waiting, narrow operands, lean, and as planned.

At the sizes of real heads, on tensors without numbers; see `fake_cuda.py`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path

import pytest
import torch
from torch._subclasses import FakeTensorMode

from loss_spec import EVERYTHING, LossOptions
from tests.tables import slow
from tests.torch_impl.fake_cuda import Call, Recording, make_arrays, record, run
from torch_impl import linear_cross_entropy
from torch_impl.config import Config
from torch_impl.one_pass import one_pass_forward
from torch_impl.two_pass import two_pass_backward, two_pass_forward

pytestmark = pytest.mark.cpu_only("on a GPU every test takes that path, and tests/gpu looks on")

BFLOAT16, FLOAT16, FLOAT32 = torch.bfloat16, torch.float16, torch.float32
PRESETS = {
    "gemma2_2b": (8192, 2304, 256000),
    "llama3_8b": (8192, 4096, 128256),
    "long": (32768, 2560, 128256),
    "seed": (8192, 2048, 100000),
}
# Each strategy with each layout of the weight: [V, D] for vocab_axis 0.
WAYS = [
    (BFLOAT16, "auto", 0),
    (BFLOAT16, "two_pass", 1),
    (BFLOAT16, "one_pass", 0),
    (BFLOAT16, "one_pass", 1),
    (FLOAT32, "auto", 1),
    (FLOAT32, "two_pass", 0),
    (FLOAT32, "one_pass", 0),
    (FLOAT32, "one_pass", 1),
]


def named(preset, way):
    dtype, strategy, axis = way
    return f"{preset}, {dtype}, {strategy}, vocab_axis {axis}"


HEADS = {
    named(preset, way): Call(PRESETS[preset], way[0]).having(strategy=way[1], vocab_axis=way[2])
    for preset, way in product(PRESETS, WAYS)
}

# With a budget of which the tiles can be large: there are fewer then, and the test is short.
SEED = Call(PRESETS["seed"], BFLOAT16).having(memory_budget=2**31)
RAGGED = SEED._replace(shape=(4093, 765, 50257))
VARIANTS = {
    "softcap": SEED.having(logit_softcap=30.0),
    "negative scale": SEED.having(logit_scale=-0.5),
    "bias": SEED._replace(needs="hidden weight bias"),
    "frozen weight": SEED._replace(needs="hidden"),
    "frozen hidden": SEED._replace(needs="weight"),
    "loss alone": SEED._replace(needs=""),
    "smoothing": SEED._replace(given="class_weight").having(label_smoothing=0.1),
    "z_loss": SEED.having(z_loss=1e-4, return_aux=True),
    "token weights": SEED._replace(given="token_weight").having(reduction="sum"),
    "none": SEED._replace(given="token_weight").having(reduction="none"),
    "ragged": RAGGED.having(vocab_axis=1, logit_softcap=30.0),
    "autocast": SEED._replace(dtype=FLOAT32, autocast=BFLOAT16),
    "float16": SEED._replace(dtype=FLOAT16),
}
CALLS = {
    **HEADS,
    **{
        f"{name}, {strategy}": call.having(strategy=strategy)
        for name, call in VARIANTS.items()
        for strategy in ("two_pass", "one_pass")
    },
    **{
        f"{name}, float32": VARIANTS[name]._replace(dtype=FLOAT32)
        for name in ("softcap", "bias", "frozen weight", "frozen hidden", "loss alone", "smoothing")
    },
}
# Each way with one of the heads, each head with two of the ways: the rest is slow.
FEW = {named(preset, way) for preset, way in zip(cycle(PRESETS), WAYS, strict=False)}
every_call = pytest.mark.parametrize(
    "call",
    [
        pytest.param(call, id=name, marks=slow if name in HEADS.keys() - FEW else ())
        for name, call in CALLS.items()
    ],
)


def test_the_recorder_sees_a_known_allocation():
    def step():
        torch.ones(1000, device="meta")  # freed at once
        half = torch.ones(500, device="meta")
        return (half.view(50, 10), half, given[:5], given + 1)

    given = torch.empty(10, device="meta")
    recording = record(step, [given])
    assert [each.shape for each in recording.allocations] == [(1000,), (500,), (10,)]
    assert (recording.peak, recording.workspace) == (4000, 4000 - 2000 - 40)


# Of these the host must know a number, if only how many there are.
WAITING = {
    f"aten::{name}"
    for name in ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select")
}


@every_call
def test_the_host_never_waits(call):
    _, recording = run(call)
    for operator in recording.operators:
        assert operator.name not in WAITING
        # Neither a copy to the host or from it, nor a number of the host's among operands.
        assert {each.device for each in (*operator.inputs, *operator.outputs)} <= {"meta"}
        # A mask as an index is looked through for what it selects.
        is_index = operator.name.startswith(("aten::index", "aten::_index_put"))
        assert not is_index or torch.bool not in {each.dtype for each in operator.inputs}


@every_call
def test_operands_are_as_narrow_as_inputs_and_products_are_not(call):
    planned, recording = run(call)
    operand = call.autocast or call.dtype
    matmuls = recording.matmuls()
    assert {matmul.dtypes for matmul in matmuls} == {(operand, operand, FLOAT32)}
    assert sum(matmul.flops for matmul in matmuls) == planned.flops


@every_call
def test_no_logits_and_no_second_gradient(call):
    """Nothing as large as all logits; as large as the weight, what must be alone."""
    planned, recording = run(call)
    num_tokens, hidden_dim, vocab_size = call.shape
    assert max(each.numel for each in recording.allocations) < num_tokens * vocab_size
    is_one_pass = planned.strategy == "one_pass"
    expected = []
    if "weight" in call.needs:
        expected = [call.dtype]
        if is_one_pass and call.dtype != FLOAT32:
            expected = [FLOAT32, call.dtype]  # its sum, until the cotangent is known
    as_large = [
        each.dtype
        for each in recording.allocations
        if each.numel == vocab_size * hidden_dim
        and not (is_one_pass and len(each.shape) == 1)  # a tile may be as large
    ]
    assert as_large == expected


@every_call
def test_the_workspace_is_as_planned(call):
    planned, recording = run(call)
    assert recording.workspace <= planned.workspace_bytes
    if call.autocast is None:  # under which a plan does not know the inputs that are wide
        assert recording.workspace > 0.9 * planned.workspace_bytes


# Of c10::DeviceType.
CUDA, META = 1, 14


@pytest.fixture
def cuda_guard() -> Iterator[None]:
    """A build for CPUs has no device guard for CUDA, which a slice asks for: lends it that of
    meta, which does nothing. A build for CUDA has its own."""
    if torch.backends.cuda.is_built():
        yield
        return
    if sys.platform != "linux":
        pytest.skip("finds the guards by a symbol of Linux's C++")
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 21).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    guards[CUDA], before = guards[META], guards[CUDA]
    yield
    guards[CUDA] = before


LOOPS = Call((200, 32, 500), FLOAT32, needs="", given="bias class_weight")


def run_loops(strategy: str, device: str, dtype: torch.dtype, operand: torch.dtype) -> Recording:
    """The loss and its gradients, without the engine of autograd: that needs more of a device."""
    arrays = make_arrays(LOOPS._replace(dtype=dtype), device)
    hidden, weight, bias, class_weight, labels = arrays.values()
    options = LossOptions(label_smoothing=0.1, logit_scale=-1.0, logit_softcap=30.0, z_loss=1e-4)
    config = Config(
        objective=options.objective,
        reduction="mean",
        vocab_chunk=128,
        token_chunk=64,
        memory_budget=0,
        prediction=True,
        dtype=operand,
    )
    inputs = hidden, weight, bias, class_weight.float(), labels

    def two_pass():
        losses, statistics = two_pass_forward(config, *inputs)
        gradients = two_pass_backward(config, EVERYTHING, *inputs, statistics, losses)
        return (losses, *gradients)

    def one_pass():
        result = one_pass_forward(config, EVERYTHING, *inputs[:4], None, labels)
        return (result.loss, *result.sums)

    return record({"two_pass": two_pass, "one_pass": one_pass}[strategy], inputs)


@pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])
@pytest.mark.parametrize(
    ("dtype", "operand"),
    [(BFLOAT16, BFLOAT16), (FLOAT32, FLOAT32), (FLOAT32, BFLOAT16)],
    ids=["bfloat16", "float32", "autocast"],
)
def test_cuda_does_what_meta_does(dtype, operand, strategy, cuda_guard):
    on_meta = run_loops(strategy, "meta", dtype, operand)
    with FakeTensorMode():
        on_cuda = run_loops(strategy, "cuda", dtype, operand)
    assert len(on_meta.operators) > 300
    assert on_cuda.operators == tuple(each.on("cuda") for each in on_meta.operators)
    assert on_cuda.peak == on_meta.peak


def test_autocast_of_cuda_narrows_the_operands(cuda_guard):
    before = torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)  # `torch.autocast` does not where there is no GPU
    torch.set_autocast_dtype("cuda", BFLOAT16)
    try:
        with FakeTensorMode():
            arrays = make_arrays(LOOPS, "cuda")
            recording = record(lambda: [linear_cross_entropy(**arrays)], list(arrays.values()))
    finally:
        torch.set_autocast_enabled("cuda", False)
        torch.set_autocast_dtype("cuda", before)
    assert {matmul.dtypes for matmul in recording.matmuls()} == {(BFLOAT16, BFLOAT16, FLOAT32)}


@pytest.mark.parametrize(("token_chunk", "copies"), [(8192, 1), (4096, 2 * 25)])
def test_a_single_block_of_tokens_is_taken_once_a_pass(token_chunk, copies):
    """Of more than one, each is taken again for every chunk of the vocabulary, in the backward."""
    call = SEED.having(strategy="two_pass", token_chunk=token_chunk, vocab_chunk=4096)
    _, recording = run(call)
    hidden_dim = SEED.shape[1]
    taken = [
        operator
        for operator in recording.operators
        if operator.name == "aten::masked_fill_"
        and operator.outputs[0].shape == (token_chunk, hidden_dim)
    ]
    forward = 8192 // token_chunk
    assert len(taken) == forward + copies
