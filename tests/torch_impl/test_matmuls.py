"""How many matrix products a call is made of: none that nobody asked for."""

from __future__ import annotations

import pytest
import torch

from tests.torch_impl.matmuls import count_flops
from torch_impl import linear_cross_entropy

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 15, 8, 507

# Of the forward 1; of the backward the logits again, and one for each large gradient.
MATMULS = {
    "both": (("hidden", "weight"), 4),
    "all": (("hidden", "weight", "bias"), 4),
    "frozen weight": (("hidden",), 3),
    "frozen hidden": (("weight",), 3),
    "bias alone": (("bias",), 2),
}
CHUNKS = {"ragged": (100, 7), "dividing": (169, 5), "whole": (507, 15)}


@pytest.fixture
def arrays():
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden": torch.randn(NUM_TOKENS, HIDDEN_DIM, generator=generator),
        "weight": torch.randn(VOCAB_SIZE, HIDDEN_DIM, generator=generator),
        "labels": torch.randint(VOCAB_SIZE, (NUM_TOKENS,), generator=generator),
        "bias": torch.randn(VOCAB_SIZE, generator=generator),
    }


def count_matmuls(step):
    """In units of one N x V x D product, however many chunks it is made of."""
    return count_flops(step) / (2 * NUM_TOKENS * VOCAB_SIZE * HIDDEN_DIM)


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(("trained", "expected"), MATMULS.values(), ids=MATMULS)
def test_gradients(arrays, trained, expected, chunks):
    for name in trained:
        arrays[name].requires_grad_()

    def step():
        linear_cross_entropy(**arrays, vocab_chunk=chunks[0], token_chunk=chunks[1]).backward()

    assert count_matmuls(step) == expected
    assert {name for name, array in arrays.items() if array.grad is not None} == set(trained)


def test_loss_alone(arrays):
    arrays["hidden"].requires_grad_()
    with torch.no_grad():
        assert count_matmuls(lambda: linear_cross_entropy(**arrays, vocab_chunk=100)) == 1


def test_nothing_trained(arrays):
    assert count_matmuls(lambda: linear_cross_entropy(**arrays, vocab_chunk=100)) == 1
    assert not linear_cross_entropy(**arrays).requires_grad
