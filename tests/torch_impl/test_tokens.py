"""On a CPU the tokens that count are packed, and their gradients go back to their places."""

from __future__ import annotations

import pytest
import torch

from torch_impl import linear_cross_entropy
from torch_impl.chunks import pieces

pytestmark = pytest.mark.cpu_only("on a GPU every token is in a block")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])
def test_gradients_are_those_of_the_counted_tokens_alone(strategy, dtype):
    """So many that their rows move in several pieces, some to where others have been."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(4096, 256, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(8, 256, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(8, (4096,), generator=generator)
    labels[torch.rand(4096, generator=generator) < 0.5] = -100
    counted = labels != -100
    assert len(list(pieces(hidden[counted]))) > 1

    def gradients(rows, labels):
        loss = linear_cross_entropy(rows, weight, labels, strategy=strategy, token_chunk=512)
        return torch.autograd.grad(loss, (rows, weight))

    grad_hidden, grad_weight = gradients(hidden, labels)
    packed = hidden[counted].detach().requires_grad_()
    expected_hidden, expected_weight = gradients(packed, labels[counted])
    torch.testing.assert_close(grad_hidden[counted], expected_hidden)
    torch.testing.assert_close(grad_weight, expected_weight)
    assert not grad_hidden[~counted].any()
