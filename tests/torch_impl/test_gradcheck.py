"""First derivatives agree with finite differences under every option; second ones raise."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.utils.checkpoint

from tests.tables import grid
from tests.torch_impl.programs import on_device
from torch_impl import linear_cross_entropy

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 5, 3, 7
CHUNKS = {"vocab_chunk": 3, "token_chunk": 2}


def draw(*shape, seed):
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


CLASS_WEIGHT = draw(VOCAB_SIZE, seed=3).exp()
TOKEN_WEIGHT = draw(NUM_TOKENS, seed=4).exp()
OPTIONS = {
    "label_smoothing": {"label_smoothing": 0.3},
    "logit_scale": {"logit_scale": -1.5},
    "logit_softcap": {"logit_softcap": 1.5},
    "z_loss": {"z_loss": 0.1},
    "class_weight": {"class_weight": CLASS_WEIGHT},
    "token_weight": {"token_weight": TOKEN_WEIGHT},
    "smoothing of weighted classes": {"label_smoothing": 0.3, "class_weight": CLASS_WEIGHT},
    "all": {
        "label_smoothing": 0.3,
        "logit_scale": -1.5,
        "logit_softcap": 1.5,
        "z_loss": 0.1,
        "class_weight": CLASS_WEIGHT,
        "token_weight": TOKEN_WEIGHT,
    },
}
STRATEGIES = ("two_pass", "one_pass")


def make_inputs(vocab_axis=0):
    weight = draw(VOCAB_SIZE, HIDDEN_DIM, seed=1)
    weight = weight if vocab_axis == 0 else weight.T.contiguous()
    arrays = draw(NUM_TOKENS, HIDDEN_DIM, seed=0), weight, draw(VOCAB_SIZE, seed=2)
    return tuple(array.requires_grad_() for array in arrays)


def loss(hidden, weight, bias, **options):
    labels = torch.tensor([0, 6, -100, 3, 6])
    options = {"strategy": "two_pass", **CHUNKS, **on_device(options)}
    return linear_cross_entropy(hidden, weight, labels, bias=bias, **options)


@grid(options=OPTIONS, reduction=("mean", "sum"), vocab_axis=(0, 1))
def test_gradcheck_of_one_pass(options, reduction, vocab_axis):
    """Its first backward hands out sums, and the next computes them again, in another order."""
    given = {"reduction": reduction, "vocab_axis": vocab_axis, "strategy": "one_pass", **options}
    function = partial(loss, **given)
    assert torch.autograd.gradcheck(function, make_inputs(vocab_axis), nondet_tol=1e-13)


@grid(options=OPTIONS, reduction=("mean", "sum", "none"), vocab_axis=(0, 1))
def test_gradcheck(options, reduction, vocab_axis):
    """Without options it is done in test_derivatives.py."""
    given = {"reduction": reduction, "vocab_axis": vocab_axis, **options}
    assert torch.autograd.gradcheck(partial(loss, **given), make_inputs(vocab_axis))


@grid(options=OPTIONS, strategy=STRATEGIES)
def test_gradgradcheck(options, strategy):
    """A second derivative is an error under each option, and never a matrix of zeros."""
    function = partial(loss, strategy=strategy, **options)
    with pytest.raises(RuntimeError, match="second derivatives are not supported"):
        torch.autograd.gradgradcheck(function, make_inputs())


@grid(strategy=STRATEGIES, reentrant=(False, True))
def test_recomputed_under_a_checkpoint(strategy, reentrant):
    """The loss in a checkpointed block: run twice, with the same gradient."""
    inputs, function = make_inputs(), partial(loss, strategy=strategy)
    expected = torch.autograd.grad(function(*inputs), inputs)
    run = partial(torch.utils.checkpoint.checkpoint, use_reentrant=reentrant)
    checkpointed = run(function, *inputs)
    if reentrant:  # it knows `backward` alone
        checkpointed.backward()
        assert all(torch.equal(array.grad, e) for array, e in zip(inputs, expected, strict=True))
        return
    for one, other in zip(torch.autograd.grad(checkpointed, inputs), expected, strict=True):
        assert torch.equal(one, other)
