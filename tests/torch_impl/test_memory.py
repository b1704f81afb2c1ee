"""By allocator events: no [N, V] buffer, and a tenth of the standard's workspace."""

from __future__ import annotations

import pytest
import torch

from tests.torch_impl.allocations import record_allocations
from torch_impl import linear_cross_entropy, standard_linear_cross_entropy

# Neither hidden nor weight comes near N x V, so whatever is that large can only be logits.
SHAPES = {"round": (256, 16, 4096), "ragged": (251, 16, 4097)}
CHUNKS = {"vocab_chunk": 256, "token_chunk": 64}


def make_arrays(num_tokens, hidden_dim, vocab_size, dtype=torch.float32, vocab_axis=0):
    generator = torch.Generator().manual_seed(0)
    shape = (vocab_size, hidden_dim) if vocab_axis == 0 else (hidden_dim, vocab_size)
    hidden = torch.randn(num_tokens, hidden_dim, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(vocab_size, (num_tokens,), generator=generator)


def make_step(loss, arrays, **options):
    hidden, weight, labels = arrays
    inputs = [array for array in (hidden, weight) if array.requires_grad]

    def step():
        value = loss(hidden, weight, labels, **options)
        return (value, *torch.autograd.grad(value, inputs)) if inputs else (value,)

    return step


def test_the_probe_sees_a_known_allocation(tmp_path):
    def step():
        torch.ones(1000)  # freed at once
        return (torch.ones(500),)

    measured = record_allocations(step, tmp_path)
    assert measured == (4000, 4000, 2000)


@pytest.mark.parametrize("vocab_axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_no_full_logits(shape, dtype, vocab_axis, tmp_path):
    num_tokens, _, vocab_size = shape
    arrays = make_arrays(*shape, dtype, vocab_axis)
    options = {"vocab_axis": vocab_axis}
    chunked = record_allocations(
        make_step(linear_cross_entropy, arrays, **options, **CHUNKS), tmp_path
    )
    standard = record_allocations(
        make_step(standard_linear_cross_entropy, arrays, **options), tmp_path
    )
    full_logits = 4 * num_tokens * vocab_size
    assert standard.largest >= full_logits  # it would have been seen
    assert chunked.largest < full_logits / 10
    assert chunked.workspace < standard.workspace / 10


def test_chunk_sizes_chosen_by_the_plan(tmp_path):
    num_tokens, vocab_size = 2048, 16384
    arrays = make_arrays(num_tokens, 16, vocab_size)
    chunked = record_allocations(make_step(linear_cross_entropy, arrays), tmp_path)
    assert chunked.workspace < 4 * num_tokens * vocab_size / 10


@pytest.mark.parametrize("vocab_axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weight_is_never_copied_whole(dtype, vocab_axis, tmp_path):
    """Ragged, where padding would tempt, and transposed, where a copy would."""
    arrays = make_arrays(64, 256, 4097, dtype, vocab_axis)
    step = make_step(linear_cross_entropy, arrays, vocab_axis=vocab_axis, **CHUNKS)
    weight = arrays[1]
    assert record_allocations(step, tmp_path).workspace < weight.nbytes / 2


def test_frozen_weight_has_no_gradient_buffer(tmp_path):
    hidden, weight, labels = make_arrays(64, 256, 4096)
    weight.requires_grad_(False)
    step = make_step(linear_cross_entropy, (hidden, weight, labels), **CHUNKS)
    assert record_allocations(step, tmp_path).peak < weight.nbytes / 2


def test_frozen_hidden_has_no_gradient_buffer(tmp_path):
    hidden, weight, labels = make_arrays(4096, 256, 64)
    hidden.requires_grad_(False)
    step = make_step(linear_cross_entropy, (hidden, weight, labels), vocab_chunk=16, token_chunk=64)
    assert record_allocations(step, tmp_path).peak < hidden.nbytes / 2


@pytest.mark.parametrize(
    ("shape", "dtype", "divisor"),
    [
        ((2048, 512, 32768), torch.float32, 20),
        ((64, 1024, 32768), torch.float32, 1),  # few tokens: slices of the weight count
    ],
    ids=["the sweep's largest", "few tokens"],
)
def test_default_chunks_are_lean(shape, dtype, divisor, tmp_path):
    """Held to the logits alone: the standard loss, slow at this size, needs more than those."""
    arrays = make_arrays(*shape, dtype)
    chunked = record_allocations(make_step(linear_cross_entropy, arrays), tmp_path)
    num_tokens, _, vocab_size = shape
    assert chunked.workspace <= 4 * num_tokens * vocab_size / divisor
