"""How many matrix products a call is made of: none that nobody asked for."""

from __future__ import annotations

import pytest
import torch

from tests.torch_impl.matmuls import count_flops
from torch_impl import linear_cross_entropy

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 15, 8, 507

# The logits, in two passes once more for the backward, and one for each large gradient.
MATMULS = {
    "both": (("hidden", "weight"), {"two_pass": 4, "one_pass": 3}),
    "all": (("hidden", "weight", "bias"), {"two_pass": 4, "one_pass": 3}),
    "frozen weight": (("hidden",), {"two_pass": 3, "one_pass": 2}),
    "frozen hidden": (("weight",), {"two_pass": 3, "one_pass": 2}),
    "bias alone": (("bias",), {"two_pass": 2, "one_pass": 1}),
}
every_strategy = pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])
CHUNKS = {"ragged": (100, 7), "dividing": (169, 5), "whole": (507, 15)}


@pytest.fixture
def arrays():
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    return {
        "hidden": torch.randn(NUM_TOKENS, HIDDEN_DIM, generator=generator),
        "weight": torch.randn(VOCAB_SIZE, HIDDEN_DIM, generator=generator),
        "labels": torch.randint(VOCAB_SIZE, (NUM_TOKENS,), generator=generator),
        "bias": torch.randn(VOCAB_SIZE, generator=generator),
    }


def count_matmuls(step):
    """In units of one N x V x D product, however many chunks it is made of."""
    return count_flops(step) / (2 * NUM_TOKENS * VOCAB_SIZE * HIDDEN_DIM)


@every_strategy
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(("trained", "expected"), MATMULS.values(), ids=MATMULS)
def test_gradients(arrays, trained, expected, chunks, strategy):
    for name in trained:
        arrays[name].requires_grad_()

    def step():
        options = {"vocab_chunk": chunks[0], "token_chunk": chunks[1], "strategy": strategy}
        linear_cross_entropy(**arrays, **options).backward()

    assert count_matmuls(step) == expected[strategy]
    assert {name for name, array in arrays.items() if array.grad is not None} == set(trained)


@every_strategy
def test_when_the_matmuls_are_done(arrays, strategy):
    """One pass has the gradients when it has the loss."""
    for name in ("hidden", "weight"):
        arrays[name].requires_grad_()
    losses = []

    def forward():
        losses.append(linear_cross_entropy(**arrays, strategy=strategy))

    counts = count_matmuls(forward), count_matmuls(lambda: losses[0].backward())
    assert counts == {"two_pass": (1, 3), "one_pass": (3, 0)}[strategy]


@every_strategy
def test_loss_alone(arrays, strategy):
    arrays["hidden"].requires_grad_()
    options = {"vocab_chunk": 100, "strategy": strategy}
    with torch.no_grad():
        assert count_matmuls(lambda: linear_cross_entropy(**arrays, **options)) == 1


@every_strategy
def test_nothing_trained(arrays, strategy):
    options = {"vocab_chunk": 100, "strategy": strategy}
    assert count_matmuls(lambda: linear_cross_entropy(**arrays, **options)) == 1
    assert not linear_cross_entropy(**arrays, **options).requires_grad


@pytest.mark.cpu_only("on a GPU, whose labels nobody reads, ignored tokens are multiplied too")
@every_strategy
@pytest.mark.parametrize("num_counted", [0, 1, 8, 14])
@pytest.mark.parametrize("is_scattered", [True, False])
def test_ignored_tokens_cost_nothing(arrays, num_counted, is_scattered, strategy):
    """Neither between others nor after them: the flops are those of the tokens that count."""
    for name in ("hidden", "weight"):
        arrays[name].requires_grad_()
    generator = torch.Generator(torch.get_default_device()).manual_seed(1)
    ignored = torch.arange(num_counted, NUM_TOKENS)
    if is_scattered:
        ignored = torch.randperm(NUM_TOKENS, generator=generator)[num_counted:]
    arrays["labels"][ignored] = -100

    def step():
        options = {"vocab_chunk": 100, "token_chunk": 4, "strategy": strategy}
        linear_cross_entropy(**arrays, **options).backward()

    matmuls = {"two_pass": 4, "one_pass": 3}[strategy]
    assert count_matmuls(step) == pytest.approx(matmuls * num_counted / NUM_TOKENS)
