"""What the tests of `torch.compile` compile: the loss in the midst of something larger."""

from __future__ import annotations

import torch

from torch_impl import linear_cross_entropy

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 15, 8, 50
# What is compiled has two passes, whatever it is asked for.
CHUNKS = {"vocab_chunk": 20, "token_chunk": 7, "strategy": "two_pass"}
OPTIONS = {
    "mean": {},
    "none": {"reduction": "none"},
    "aux": {"return_aux": True},
    "plan": {"vocab_chunk": None, "token_chunk": None},
    "all": {
        "label_smoothing": 0.1,
        "logit_scale": 1.5,
        "logit_softcap": 3.0,
        "z_loss": 0.01,
        "class_weight": torch.linspace(0.5, 2, VOCAB_SIZE),
        "token_weight": torch.linspace(0, 2, NUM_TOKENS),
    },
}


def make_arrays(num_tokens=NUM_TOKENS, vocab_size=VOCAB_SIZE, vocab_axis=0):
    generator = torch.Generator(torch.get_default_device()).manual_seed(num_tokens)
    hidden = torch.randn(num_tokens, HIDDEN_DIM, generator=generator)
    weight = torch.randn(vocab_size, HIDDEN_DIM, generator=generator)
    labels = torch.randint(vocab_size, (num_tokens,), generator=generator)
    labels[::5] = -100
    bias = torch.randn(vocab_size, generator=generator)
    weight = weight if vocab_axis == 0 else weight.T.contiguous()
    return hidden.requires_grad_(), weight.requires_grad_(), labels, bias.requires_grad_()


def on_device(options):
    """These options, their arrays on the device of the test."""
    device = torch.get_default_device()
    return {n: o.to(device) if isinstance(o, torch.Tensor) else o for n, o in options.items()}


def model(**options):
    """The loss between a body and something that is done with it."""
    options = on_device(options)

    def function(hidden, weight, labels, bias):
        given = {**CHUNKS, **options}
        result = linear_cross_entropy(torch.tanh(hidden), weight, labels, bias=bias, **given)
        if options.get("return_aux"):
            return 3 * result[0], *result[1]
        return (3 * result,)

    return function


def compiled(function, backend="aot_eager", **settings):
    return torch.compile(function, fullgraph=True, backend=backend, **settings)


def results(function, arrays):
    hidden, weight, _, bias = arrays
    loss, *aux = function(*arrays)
    cotangent = torch.linspace(-1, 2, loss.numel()).reshape(loss.shape)
    assert not any(rows.requires_grad for rows in aux)
    return loss, *aux, *torch.autograd.grad(loss, (hidden, weight, bias), cotangent)


def assert_same(found, expected):
    """To the bit: traced or not, the same operators run."""
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def nothing_trained(arrays):
    return [array.detach() for array in arrays]
