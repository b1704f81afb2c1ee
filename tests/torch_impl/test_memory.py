"""By allocator events: no [N, V] buffer, and a tenth of the standard's workspace."""

from __future__ import annotations

import pytest
import torch

from tests.tables import grid, slow
from tests.torch_impl.allocations import record_allocations
from torch_impl import linear_cross_entropy, standard_linear_cross_entropy

# Neither hidden nor weight comes near N x V, so whatever is that large can only be logits.
SHAPES = {"round": (256, 16, 4096), "ragged": (251, 16, 4097)}
CHUNKS = {"vocab_chunk": 256, "token_chunk": 64, "strategy": "two_pass"}
MIB = 2**20

pytestmark = pytest.mark.cpu_only("they read the CPU's allocator; of a GPU there is tests/gpu")


def make_arrays(num_tokens, hidden_dim, vocab_size, dtype=torch.float32, vocab_axis=0):
    generator = torch.Generator().manual_seed(0)
    shape = (vocab_size, hidden_dim) if vocab_axis == 0 else (hidden_dim, vocab_size)
    # Logits of ordinary size: a CPU is slow with gradients so small that they are denormal.
    scale = hidden_dim**-0.25
    hidden = scale * torch.randn(num_tokens, hidden_dim, generator=generator)
    weight = scale * torch.randn(shape, generator=generator)
    hidden, weight = (array.to(dtype).requires_grad_() for array in (hidden, weight))
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
    assert measured == (4000, 4000, 2000, (4000, 2000))


@grid(shape=SHAPES, dtype=(torch.float32, torch.bfloat16), vocab_axis=(0, 1))
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


def test_one_pass_holds_the_logits_of_one_block(tmp_path):
    vocab_size = SHAPES["ragged"][2]
    arrays = make_arrays(*SHAPES["ragged"])
    step = make_step(linear_cross_entropy, arrays, strategy="one_pass", token_chunk=16)
    assert record_allocations(step, tmp_path).largest == 4 * 16 * vocab_size


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
    chunks = {**CHUNKS, "vocab_chunk": 16}
    step = make_step(linear_cross_entropy, (hidden, weight, labels), **chunks)
    assert record_allocations(step, tmp_path).peak < hidden.nbytes / 2


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param((2048, 512, 32768), id="the sweep's largest", marks=slow),
        pytest.param((64, 1024, 32768), id="few tokens"),
    ],
)
def test_default_chunks_are_lean(shape, tmp_path):
    """Where the standard loss needs 700 MiB, and where even the logits are few."""
    arrays = make_arrays(*shape)
    chunked = record_allocations(make_step(linear_cross_entropy, arrays), tmp_path)
    assert chunked.workspace <= 20 * MIB
