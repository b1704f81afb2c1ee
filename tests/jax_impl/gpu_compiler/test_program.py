"""What XLA's compiler makes of the loss for an H100: no waiting host, no large buffer, 16 bits.

Skipped where the compiler is not installed; `.ci/gpu_compiler` brings it. Nothing runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import jax
import pytest

from harness.gpu_compiler.h100 import (
    buffers,
    compile_for_h100,
    is_here,
    traced_for_a_gpu,
)
from jax_impl import linear_cross_entropy, plan
from tests.gpu_profiles.kernels import matmul_operands
from tests.jax_impl.programs import abstract_arrays, temporary_bytes

pytestmark = [
    pytest.mark.skipif(
        not is_here(), reason="needs jax-cuda12-pjrt and jax-cuda12-plugin: .ci/gpu_compiler"
    ),
    pytest.mark.cpu_only("on a GPU tests/gpu looks at what runs"),
]

MIB = 2**20
# N, D, V: real heads, a long batch, and one that nothing divides.
SHAPES = {
    "gemma2_2b": (8192, 2304, 256000),
    "llama3_8b": (8192, 4096, 128256),
    "long": (32768, 2560, 128256),
    "seed": (8192, 2048, 25000),
    "ragged": (1021, 765, 50257),
}
OPTIONS = {
    "none": {},
    "softcap": {"logit_softcap": 30.0},
    "all": {
        "logit_softcap": 30.0, "logit_scale": 0.5, "label_smoothing": 0.1, "z_loss": 1e-4,
        "return_aux": True,
    },
}  # fmt: skip
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
every_dtype = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
every_strategy = pytest.mark.parametrize("strategy", ["auto", "two_pass", "one_pass"])


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    with traced_for_a_gpu():
        yield


def compile_step(shape, dtype, *, needs=("hidden", "weight"), vocab_axis=0, **options):
    hidden, weight, labels = abstract_arrays(*shape, dtype, vocab_axis)
    arrays = {"hidden": hidden, "weight": weight}
    wanted = {name: arrays[name] for name in needs}
    others = {name: array for name, array in arrays.items() if name not in wanted}

    def loss(wanted, others, labels):
        return linear_cross_entropy(
            **wanted, **others, labels=labels, vocab_axis=vocab_axis, **options
        )

    step = jax.value_and_grad(loss, has_aux=options.get("return_aux", False))
    return compile_for_h100(step, wanted, others, labels)


def predicted(shape, dtype, vocab_axis=0, **options):
    return plan(*abstract_arrays(*shape, dtype, vocab_axis), vocab_axis=vocab_axis, **options)


@every_strategy
@every_dtype
@every_shape
def test_workspace_is_what_the_plan_says(shape, dtype, strategy):
    said = predicted(shape, dtype, strategy=strategy)
    measured = temporary_bytes(compile_step(shape, dtype, strategy=strategy))
    assert measured <= 1.1 * said.workspace_bytes, said


@pytest.mark.parametrize("vocab_axis", [0, 1])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_workspace_with_all_options_and_layouts(options, vocab_axis):
    options = {**options, "vocab_axis": vocab_axis}
    for strategy in ("two_pass", "one_pass"):
        said = predicted(SHAPES["ragged"], "bfloat16", strategy=strategy, **options)
        compiled = compile_step(SHAPES["ragged"], "bfloat16", strategy=strategy, **options)
        assert temporary_bytes(compiled) <= 1.1 * said.workspace_bytes, said


@pytest.mark.parametrize("budget_mib", [300, 1000, 4000])
def test_a_budget_is_kept(budget_mib):
    options = {"memory_budget": budget_mib * MIB}
    compiled = compile_step(SHAPES["gemma2_2b"], "bfloat16", **options)
    assert temporary_bytes(compiled) <= budget_mib * MIB


@every_strategy
@every_dtype
def test_the_host_never_waits(dtype, strategy):
    """A loop whose length is a value, and a branch, make it read a number back each time."""
    text = compile_step(SHAPES["ragged"], dtype, strategy=strategy).as_text()
    loops = [line for line in text.splitlines() if re.search(r"\) while\(", line)]
    assert loops
    assert all("known_trip_count" in line for line in loops)
    assert not re.search(r" (conditional|send|recv|infeed|outfeed)\(|callback", text)


@every_strategy
@pytest.mark.parametrize("needs", [("hidden", "weight"), ("hidden",), ("weight",)])
def test_matmuls_are_of_16_bits_and_come_out_in_32(needs, strategy):
    text = compile_step(SHAPES["ragged"], "bfloat16", needs=needs, strategy=strategy).as_text()
    assert matmul_operands(text) == {("bf16", "bf16")}
    assert set(re.findall(r"= (\w+)\[[^=]*? dot\(", text)) == {"f32"}


@pytest.mark.parametrize("vocab_axis", [0, 1])
@every_dtype
@pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])
def test_nothing_is_tokens_by_vocabulary(strategy, dtype, vocab_axis):
    num_tokens, _, vocab_size = SHAPES["ragged"]
    compiled = compile_step(SHAPES["ragged"], dtype, strategy=strategy, vocab_axis=vocab_axis)
    made = buffers(compiled)
    assert made
    largest = max(math.prod(shape) for _, shape in made if vocab_size in shape[-2:])
    assert largest < num_tokens * vocab_size


@pytest.mark.parametrize("needs", [("hidden", "weight"), ("hidden",)])
def test_two_passes_have_no_float32_array_of_the_size_of_the_weight(needs):
    compiled = compile_step(SHAPES["ragged"], "bfloat16", needs=needs, strategy="two_pass")
    wide = [math.prod(shape) for dtype, shape in buffers(compiled) if dtype == "f32"]
    assert max(wide) < math.prod(SHAPES["ragged"][1:])


def test_the_weight_is_never_padded():
    """Long sums are split, and padded to be: not over the whole vocabulary, which has a prime."""
    vocab_size = 25013
    shape = (4096, 2048, vocab_size)
    for dtype in ("float32", "bfloat16"):
        options = {"strategy": "one_pass", "token_chunk": 64, "vocab_chunk": 512}
        rows = [sizes for _, sizes in buffers(compile_step(shape, dtype, **options))]
        assert not [sizes for sizes in rows if vocab_size < max(sizes, default=0)]
