"""Training with float16 autocast and a loss scaler: the steps of float32, and skipped ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from loss_spec.reference import fair_error, relative_error
from torch_impl import linear_cross_entropy, standard_linear_cross_entropy

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 24, 16, 50
STEPS = 3
SCALE = 2.0**16  # that of a `GradScaler` which was told nothing


class Model(nn.Module):
    """A body of one layer, whose output is float16 under autocast, and a head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(HIDDEN_DIM, HIDDEN_DIM)
        self.head = nn.Linear(HIDDEN_DIM, VOCAB_SIZE)

    def forward(self, tokens, labels, loss):
        hidden = torch.tanh(self.body(tokens))
        return loss(hidden, self.head.weight, labels, bias=self.head.bias)


@pytest.fixture(params=["two_pass", "one_pass"])
def chunked(request):
    chunks = {"vocab_chunk": 20, "token_chunk": 7, "strategy": request.param}

    def loss(*arrays, **options):
        return linear_cross_entropy(*arrays, **options, **chunks)

    return loss


@pytest.fixture
def data():
    generator = torch.Generator(torch.get_default_device()).manual_seed(1)
    tokens = torch.randn(NUM_TOKENS, HIDDEN_DIM, generator=generator)
    labels = torch.randint(VOCAB_SIZE, (NUM_TOKENS,), generator=generator)
    labels[::5] = -100
    return tokens, labels


def make_model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model()


def train(loss, data, *, scale=SCALE, steps=STEPS, model=None):
    """Gradients of the last step, unscaled, and the model and scaler after it."""
    model = make_model() if model is None else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    device = torch.get_default_device().type
    scaler = torch.amp.GradScaler(device, init_scale=scale)
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast(device, dtype=torch.float16):
            value = model(*data, loss)
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        scaler.step(optimizer)
        scaler.update()
    return gradients, model, scaler


def train_in_float32(data):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(*data, standard_linear_cross_entropy).backward()
        gradients = [parameter.grad.clone() for parameter in model.parameters()]
        optimizer.step()
    return gradients, model


def movement(model):
    """Of the parameters, from where they started: the steps, less what they share."""
    pairs = zip(model.parameters(), make_model().parameters(), strict=True)
    return [(after - before).detach() for after, before in pairs]


def test_steps_are_those_of_float32(chunked, data):
    """As near to them as the standard loss comes with the same scaler, twice over."""

    def by_name(gradients, model):
        tensors = *gradients, *movement(model)
        names = [name for name, _ in model.named_parameters()]
        keys = *(f"gradient of {name}" for name in names), *(f"step of {name}" for name in names)
        return {key: tensor.cpu().numpy() for key, tensor in zip(keys, tensors, strict=True)}

    expected = by_name(*train_in_float32(data))

    def errors(loss):
        gradients, model, scaler = train(loss, data)
        assert scaler.get_scale() == SCALE  # no step was skipped
        found = by_name(gradients, model)
        return {name: relative_error(found[name], expected[name]) for name in expected}

    standard = errors(standard_linear_cross_entropy)
    for name, error in errors(chunked).items():
        limit = fair_error(standard[name], np.float32)
        assert error <= limit, f"{name} {error:.3g} > {limit:.3g}"


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**10])
def test_scale_changes_nothing_but_itself(chunked, data, scale):
    """Powers of two are exact on the way in and out, in the float32 gradients of the head.

    Also one that pushes each logit gradient below what float16 can hold.
    """
    once = train(chunked, data, scale=1.0, steps=1)[0]
    scaled = train(chunked, data, scale=scale, steps=1)[0]
    for one, other in zip(once[2:], scaled[2:], strict=True):
        assert torch.equal(one, other)


def too_large_a_scale(model):
    return 2.0**60  # the gradient of the float16 hidden overflows


def too_large_a_weight(model):
    with torch.no_grad():
        model.head.weight[3, 4] = 1e6  # inf in float16, and the loss NaN
    return SCALE


@pytest.mark.parametrize("overflow", [too_large_a_scale, too_large_a_weight])
def test_an_overflow_skips_the_step(chunked, data, overflow):
    model = make_model()
    scale = overflow(model)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    _, model, scaler = train(chunked, data, scale=scale, steps=1, model=model)
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
    assert scaler.get_scale() == scale * scaler.get_backoff_factor()


def test_scale_comes_down_until_a_step_is_made(chunked, data):
    _, model, scaler = train(chunked, data, scale=2.0**24, steps=20)
    assert scaler.get_scale() < 2.0**24
    assert all(step.isfinite().all() and step.any() for step in movement(model))
