"""`LinearCrossEntropyLoss` where a model is trained: beside `nn.Linear` and `F.cross_entropy`."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from torch_impl import LinearCrossEntropyLoss

BATCH, LENGTH, FEATURES, VOCAB, STEPS, PARTS = 4, 6, 16, 90, 4, 2
# Of PyTorch itself: Dynamo makes a bare Function for every one that it traces.
pytestmark = [
    pytest.mark.usefixtures("fresh_dynamo"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCAB, FEATURES)
        self.body = nn.Sequential(nn.Linear(FEATURES, FEATURES), nn.GELU(), nn.LayerNorm(FEATURES))
        self.head = nn.Linear(FEATURES, VOCAB)


def train(loss_of, *, compiles: bool = False, autocasts: bool = False, is_tied: bool = False):
    """Losses of a few AdamW steps of two micro-batches each, and the weights that they end with."""
    model, generator = Model(), torch.Generator(torch.get_default_device()).manual_seed(1)
    if is_tied:
        model.head.weight = model.embedding.weight
    if compiles:
        model.body.compile(backend="aot_eager")
    tokens = torch.randint(VOCAB, (PARTS, BATCH, LENGTH + 1), generator=generator)
    tokens[..., -1][:, 0] = -100  # a label that does not count, in each part
    num_tokens = int((tokens[..., 1:] != -100).sum())
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for _ in range(STEPS):
        total = 0.0
        for part in tokens:
            device = torch.get_default_device().type
            with torch.autocast(device, torch.bfloat16, enabled=autocasts):
                hidden = model.body(model.embedding(part[:, :-1].clamp_min(0)))
                loss = loss_of(model.head, hidden, part[:, 1:]) / num_tokens
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(total)
    return losses, nn.utils.parameters_to_vector(model.parameters())


def standard(head, hidden, labels):
    return F.cross_entropy(head(hidden).flatten(0, 1).float(), labels.flatten(), reduction="sum")


@pytest.fixture(params=["two_pass", "one_pass"])
def chunked(request):
    loss = LinearCrossEntropyLoss(
        reduction="sum", strategy=request.param, vocab_chunk=32, token_chunk=5
    )
    return lambda head, hidden, labels: loss(hidden, head.weight, labels, bias=head.bias)


@pytest.mark.parametrize("is_tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("compiles", [False, True], ids=["eager", "compiled body"])
def test_adamw_with_accumulated_gradients(chunked, compiles, is_tied):
    losses, weights = train(chunked, compiles=compiles, is_tied=is_tied)
    expected, final = train(standard, is_tied=is_tied)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < expected[0] - 0.05
    torch.testing.assert_close(weights, final, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("compiles", [False, True], ids=["eager", "compiled body"])
def test_under_autocast(chunked, compiles):
    """As near to float32 as the standard loss under autocast is, which is not equal to it."""
    losses, _ = train(chunked, compiles=compiles, autocasts=True)
    exact, _ = train(standard)
    own, _ = train(standard, autocasts=True)
    assert own != exact
    room = 2 * max(abs(a - b) for a, b in zip(own, exact, strict=True)) + 1e-3 * exact[0]
    assert losses == pytest.approx(exact, abs=room)
