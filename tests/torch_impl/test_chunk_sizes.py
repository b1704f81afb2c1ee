"""For every N, V and pair of chunk sizes the answer is that of the reference."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from loss_spec.inputs import make_inputs
from loss_spec.reference import reference_linear_cross_entropy, relative_error
from torch_impl import linear_cross_entropy

# A few hundred roundings of float64. The least that wrong chunks do, one class or one
# token of a dozen left out or counted twice, is twelve orders above.
ROUNDING = 1e-13

size = st.integers(1, 20)


@settings(deadline=None, derandomize=True, max_examples=100, database=None)
@given(
    num_tokens=size,
    vocab_size=st.integers(2, 20),
    vocab_chunk=size,
    token_chunk=size,
    vocab_axis=st.sampled_from([0, 1]),
)
def test_any_chunk_sizes(num_tokens, vocab_size, vocab_chunk, token_chunk, vocab_axis):
    hidden, weight, labels = make_inputs(
        seed=0,
        num_tokens=num_tokens,
        hidden_dim=3,
        vocab_size=vocab_size,
        dtype="float64",
        ignored_fraction=0.2,
    )
    weight = weight if vocab_axis == 0 else np.ascontiguousarray(weight.T)
    bias = np.linspace(-1, 1, vocab_size)
    cotangent = np.linspace(-1, 2, num_tokens)

    inputs = [torch.tensor(array, requires_grad=True) for array in (hidden, weight, bias)]
    losses = linear_cross_entropy(
        inputs[0],
        inputs[1],
        torch.tensor(labels),
        bias=inputs[2],
        vocab_axis=vocab_axis,
        reduction="none",
        vocab_chunk=vocab_chunk,
        token_chunk=token_chunk,
    )
    gradients = torch.autograd.grad(losses, inputs, torch.tensor(cotangent))
    expected = reference_linear_cross_entropy(
        hidden,
        weight,
        labels,
        bias=bias,
        vocab_axis=vocab_axis,
        reduction="none",
        cotangent=cotangent,
    )
    results = (losses.detach(), *gradients)
    names = ("loss", "grad_hidden", "grad_weight", "grad_bias")
    for name, value in zip(names, results, strict=True):
        assert relative_error(value.cpu().numpy(), getattr(expected, name)) < ROUNDING, name
