"""Labels, bias, class_weight and token_weight as they come: views, and wanting a gradient."""

from __future__ import annotations

import pytest
import torch

from torch_impl import linear_cross_entropy

HIDDEN_DIM, VOCAB_SIZE = 8, 50
CHUNKS = {"vocab_chunk": 20, "token_chunk": 5}
INPUTS = ("hidden", "weight", "bias")


@pytest.fixture
def arrays():
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    labels = torch.randint(VOCAB_SIZE, (3, 4), generator=generator)
    labels[0, ::3] = -100

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {
        "hidden": draw(3, 4, HIDDEN_DIM),
        "weight": draw(VOCAB_SIZE, HIDDEN_DIM),
        "bias": draw(VOCAB_SIZE),
        "labels": labels,
        "class_weight": draw(VOCAB_SIZE).exp(),
        "token_weight": draw(3, 4).exp(),
    }


def losses_and_gradients(arrays, **options):
    """As they are, view or not: no leaf is made from a copy."""
    arrays = {n: a.detach().requires_grad_() if n in INPUTS else a for n, a in arrays.items()}
    losses = linear_cross_entropy(**arrays, label_smoothing=0.1, **CHUNKS, **options)
    return losses, *torch.autograd.grad(losses.sum(), [arrays[name] for name in INPUTS])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weights_that_want_a_gradient_get_none(arrays, reduction):
    """They are constants of the loss: nothing is computed for them, and nothing raised."""
    expected = losses_and_gradients(arrays, reduction=reduction)
    weights = [arrays[name].requires_grad_() for name in ("class_weight", "token_weight")]
    for one, other in zip(losses_and_gradients(arrays, reduction=reduction), expected, strict=True):
        assert torch.equal(one, other)

    loss = linear_cross_entropy(**{**arrays, "bias": arrays["bias"].requires_grad_()})
    loss.backward()
    assert arrays["bias"].grad is not None
    assert all(weight.grad is None for weight in weights)
    assert not linear_cross_entropy(**{**arrays, "bias": None}).requires_grad


def spread(array):
    """The same values, in every second place of something larger."""
    return array.repeat_interleave(2, dim=-1)[..., ::2]


def transposed(array):
    return array.mT.contiguous().mT


def one_for_all(array):
    """With strides of 0."""
    return array.reshape(-1)[1].expand(array.shape)


VIEWS = [
    *((name, spread) for name in ("labels", "bias", "class_weight", "token_weight")),
    *((name, transposed) for name in ("labels", "token_weight")),
    *((name, one_for_all) for name in ("labels", "bias", "class_weight", "token_weight")),
]


@pytest.mark.parametrize(("name", "view"), VIEWS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_views(arrays, name, view, dtype):
    """Those of hidden and weight are in test_strides.py."""
    arrays = {n: a.to(dtype) if a.is_floating_point() else a for n, a in arrays.items()}
    strided = view(arrays[name])
    assert not strided.is_contiguous()
    found = losses_and_gradients({**arrays, name: strided}, reduction="none")
    contiguous = {**arrays, name: strided.contiguous()}
    expected = losses_and_gradients(contiguous, reduction="none")
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
