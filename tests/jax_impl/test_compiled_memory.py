"""The compiled program has no [N, V] buffer, and a tenth of the standard's temporaries."""

from __future__ import annotations

import functools

import jax
import pytest

from jax_impl import linear_cross_entropy, standard_linear_cross_entropy
from tests.jax_impl.programs import abstract_arrays, largest_buffer, temporary_bytes
from tests.tables import optimized

# Neither hidden nor weight comes near N x V, so whatever is that large can only be logits.
SHAPES = {"round": (256, 16, 4096), "ragged": (251, 16, 4097)}
CHUNKS = {"vocab_chunk": 256, "token_chunk": 64, "strategy": "two_pass"}
MIB = 2**20

pytestmark = [
    pytest.mark.cpu_only("of what a GPU's compiler assigns there is tests/gpu"),
    optimized,
]


def compile_step(loss, arrays, **options):
    """Loss and gradients of hidden and weight."""
    loss = functools.partial(loss, **options)
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1))).lower(*arrays).compile()


@pytest.mark.parametrize(
    ("shape", "dtype", "vocab_axis"),
    [
        ("round", "float32", 0),
        ("ragged", "float32", 1),
        ("ragged", "bfloat16", 0),
        ("round", "bfloat16", 1),
    ],
)
def test_no_full_logits(shape, dtype, vocab_axis):
    num_tokens, hidden_dim, vocab_size = SHAPES[shape]
    arrays = abstract_arrays(num_tokens, hidden_dim, vocab_size, dtype, vocab_axis)
    chunked = compile_step(linear_cross_entropy, arrays, vocab_axis=vocab_axis, **CHUNKS)
    standard = compile_step(standard_linear_cross_entropy, arrays, vocab_axis=vocab_axis)

    assert largest_buffer(standard) >= num_tokens * vocab_size  # it would have been seen
    assert largest_buffer(chunked) < num_tokens * vocab_size
    assert temporary_bytes(chunked) < temporary_bytes(standard) / 10


def test_chunk_sizes_chosen_by_the_plan():
    num_tokens, hidden_dim, vocab_size = 4096, 64, 32768
    arrays = abstract_arrays(num_tokens, hidden_dim, vocab_size)
    chunked = compile_step(linear_cross_entropy, arrays)
    assert largest_buffer(chunked) < num_tokens * vocab_size / 10
    assert temporary_bytes(chunked) < 4 * num_tokens * vocab_size / 10


def test_loss_alone_has_no_full_logits():
    num_tokens, hidden_dim, vocab_size = SHAPES["ragged"]
    arrays = abstract_arrays(num_tokens, hidden_dim, vocab_size)
    loss = functools.partial(linear_cross_entropy, **CHUNKS)
    compiled = jax.jit(loss).lower(*arrays).compile()
    assert largest_buffer(compiled) < num_tokens * vocab_size
    assert temporary_bytes(compiled) < 4 * num_tokens * vocab_size / 10


@pytest.mark.parametrize("vocab_axis", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weight_is_never_copied_whole(dtype, vocab_axis):
    """Ragged, where padding would tempt: there is no room for a weight among the temporaries.

    In 16 bits dW is put together as integers, and XLA's CPU compiler copies it once to
    give it its type back. A float32 copy of the weight would be twice as large.
    """
    num_tokens, hidden_dim, vocab_size = 64, 256, 4097
    arrays = abstract_arrays(num_tokens, hidden_dim, vocab_size, dtype, vocab_axis)
    step = compile_step(linear_cross_entropy, arrays, vocab_axis=vocab_axis, **CHUNKS)
    weight_bytes = vocab_size * hidden_dim * arrays[1].dtype.itemsize
    grad_weight_copy = weight_bytes if dtype == "bfloat16" else 0
    assert temporary_bytes(step) < grad_weight_copy + weight_bytes / 2


def test_frozen_weight_has_no_gradient_buffer():
    num_tokens, hidden_dim, vocab_size = 64, 256, 4096
    hidden, weight, labels = abstract_arrays(num_tokens, hidden_dim, vocab_size)
    loss = functools.partial(linear_cross_entropy, **CHUNKS)
    step = jax.jit(jax.value_and_grad(loss)).lower(hidden, weight, labels).compile()
    memory = step.memory_analysis()
    weight_bytes = 4 * vocab_size * hidden_dim
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < weight_bytes / 2


@pytest.mark.parametrize(
    "shape", [(2048, 512, 32768), (64, 1024, 32768)], ids=["the sweep's largest", "few tokens"]
)
def test_default_chunks_are_lean(shape):
    """Where the standard loss needs 512 MiB, and where even the logits are few."""
    chunked = compile_step(linear_cross_entropy, abstract_arrays(*shape))
    assert temporary_bytes(chunked) <= 20 * MIB
