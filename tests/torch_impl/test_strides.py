"""Views go in as they are, and a gradient has the strides of its weight."""

from __future__ import annotations

import pytest
import torch

from torch_impl import linear_cross_entropy

CHUNKS = {"vocab_chunk": 20, "token_chunk": 4}


def make_arrays(dtype=torch.float32):
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    hidden = torch.randn(9, 8, generator=generator).to(dtype)
    weight = torch.randn(50, 8, generator=generator).to(dtype)
    return hidden, weight, torch.randint(50, (9,), generator=generator)


def gradients(hidden, weight, labels, **options):
    hidden, weight = hidden.requires_grad_(), weight.requires_grad_()
    loss = linear_cross_entropy(hidden, weight, labels, **CHUNKS, **options)
    return loss, *torch.autograd.grad(loss, (hidden, weight))


def every_other_row(array):
    """The same values, in every second row of something larger."""
    return array.repeat_interleave(2, dim=0).detach()[::2]


def every_other_column(array):
    return array.repeat_interleave(2, dim=-1).detach()[..., ::2]


def transposed(array):
    return array.T.contiguous().T


def expanded(array):
    """One value for all, with strides of 0."""
    return array[:1, :1].expand(array.shape).detach()


VIEWS = {
    "rows": every_other_row,
    "columns": every_other_column,
    "transposed": transposed,
    "expanded": expanded,
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("argument", ["hidden", "weight"])
def test_not_contiguous(argument, view, dtype):
    hidden, weight, labels = make_arrays(dtype)
    if argument == "hidden":
        strided = view(hidden), weight, labels
    else:
        strided = hidden, view(weight), labels
    expected = gradients(*(array.contiguous() for array in strided))
    for got, value in zip(gradients(*strided), expected, strict=True):
        torch.testing.assert_close(got, value)


def test_hidden_of_a_transposed_batch():
    """[T, B, D] seen as [B, T, D]: no view can flatten it."""
    hidden, weight, labels = make_arrays()
    hidden = hidden.reshape(3, 3, 8).transpose(0, 1)
    labels = labels.reshape(3, 3).T
    expected = gradients(hidden.contiguous(), weight, labels.contiguous())
    for got, value in zip(gradients(hidden, weight, labels), expected, strict=True):
        torch.testing.assert_close(got, value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("vocab_axis", [0, 1])
def test_gradient_of_weight_has_its_strides(vocab_axis, dtype):
    """Else an optimiser would walk the two in different orders, or `.grad` be a copy."""
    hidden, weight, labels = make_arrays(dtype)
    weight = weight if vocab_axis == 0 else weight.T.contiguous()
    gradient = gradients(hidden, weight, labels, vocab_axis=vocab_axis)[2]
    assert gradient.stride() == weight.stride()


def test_no_token_gives_a_gradient_of_zeros():
    """Nothing writes to it then, and what `empty` returns is anything."""
    _, weight, labels = make_arrays()
    hidden = torch.empty(0, 8)
    loss, grad_hidden, grad_weight = gradients(hidden, weight, labels[:0])
    assert loss == 0
    assert grad_hidden.shape == (0, 8)
    assert not grad_weight.any()


def test_inputs_are_left_alone():
    hidden, weight, labels = make_arrays()
    before = [array.clone() for array in (hidden, weight, labels)]
    gradients(hidden, weight, labels)
    for array, copy in zip((hidden, weight, labels), before, strict=True):
        assert torch.equal(array, copy)


def test_tied_weights():
    """An embedding that is also the head gets the sum of both gradients."""
    _, weight, labels = make_arrays()
    weight.requires_grad_()
    linear_cross_entropy(weight[labels], weight, labels, **CHUNKS).backward()
    hidden, head = weight[labels].detach(), weight.detach().clone()
    _, grad_hidden, grad_head = gradients(hidden, head, labels)
    torch.testing.assert_close(weight.grad, grad_head.index_add(0, labels, grad_hidden))
