"""What one pass keeps between forward and backward, and where it steps aside."""

from __future__ import annotations

import gc

import pytest
import torch

from torch_impl import linear_cross_entropy

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 12, 8, 50


def make_arrays(dtype=torch.float64):
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    labels = torch.randint(VOCAB_SIZE, (NUM_TOKENS,), generator=generator)
    shapes = (NUM_TOKENS, HIDDEN_DIM), (VOCAB_SIZE, HIDDEN_DIM)
    hidden, weight = (
        torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes
    )
    return hidden, weight, labels


def live_numbers(numel, dtype):
    """How many tensors there are of that size and dtype."""
    gc.collect()
    tensors = [each for each in gc.get_objects() if type(each) is torch.Tensor]
    return sum(each.numel() == numel and each.dtype == dtype for each in tensors)


def test_sums_that_were_rounded_go_with_the_graph():
    """Or a loss that is still held would keep a float32 dW through the next step."""
    hidden, weight, labels = make_arrays(torch.bfloat16)
    loss = linear_cross_entropy(hidden, weight, labels, strategy="one_pass")
    loss.backward()
    assert loss.grad_fn is not None
    assert loss.grad_fn.own_sums == [None, None, None]
    with pytest.raises(RuntimeError, match="saved tensors after they have"):
        loss.grad_fn.saved_tensors  # noqa: B018
    assert live_numbers(VOCAB_SIZE * HIDDEN_DIM, torch.float32) == 0


def test_many_cotangents_at_once():
    hidden, weight, labels = make_arrays()
    loss = linear_cross_entropy(hidden, weight, labels, strategy="one_pass")
    (expected,) = torch.autograd.grad(loss, weight, retain_graph=True)
    loss = linear_cross_entropy(hidden, weight, labels, strategy="one_pass")
    cotangents = torch.tensor([1.0, -2.0, 0.5], dtype=loss.dtype)

    def pull(cotangent):
        return torch.autograd.grad(loss, weight, cotangent, retain_graph=True)[0]

    found = torch.func.vmap(pull)(cotangents)
    torch.testing.assert_close(found, cotangents[:, None, None] * expected)


def test_labels_alone_are_batched():
    """Under a transform of `torch.func` there are two passes, whatever it transforms."""
    hidden, weight, labels = make_arrays()
    batch = torch.stack([labels, labels.flip(0)])
    losses = torch.func.vmap(lambda one: linear_cross_entropy(hidden, weight, one))(batch)
    expected = [linear_cross_entropy(hidden, weight, one) for one in batch]
    torch.testing.assert_close(losses, torch.stack(expected))
    (found,) = torch.autograd.grad(losses.sum(), weight)
    torch.testing.assert_close(found, torch.autograd.grad(sum(expected), weight)[0])


@pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])
def test_slope_of_a_softcap_in_a_narrower_last_chunk(strategy):
    """Its slabs have more rows, and may be larger than those of whole chunks."""
    hidden = torch.randn(2048, 2, requires_grad=True)
    weight = torch.randn(1512, 2, requires_grad=True)
    labels = torch.zeros(2048, dtype=torch.int64)
    options = {"logit_softcap": 30.0, "strategy": strategy}
    losses = [
        linear_cross_entropy(hidden, weight, labels, vocab_chunk=chunk, token_chunk=2048, **options)
        for chunk in (1000, 1512)
    ]
    for one, other in zip(*(torch.autograd.grad(x, (hidden, weight)) for x in losses), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)
