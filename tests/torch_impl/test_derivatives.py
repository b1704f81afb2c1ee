"""First derivatives agree with finite differences; all others raise, never zeros.

For a mean or a sum the cotangent is a constant, and `once_differentiable` would give
second derivatives of zero without a word: hence every reduction is tried.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch

from torch_impl import linear_cross_entropy, standard_linear_cross_entropy

SECOND = r"linear_cross_entropy: second derivatives are not supported"
FORWARD = r"linear_cross_entropy: forward-mode differentiation is not supported"
# Of "none" there is no one_pass.
CALLS = {
    f"{reduction}, {strategy}": {"reduction": reduction, "strategy": strategy}
    for reduction in ("mean", "sum", "none")
    for strategy in ("two_pass", "one_pass")
    if (reduction, strategy) != ("none", "one_pass")
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
MEAN = {"reduction": "mean"}
HIDDEN, WEIGHT, BIAS = range(3)

# PyTorch's own, from the first use of forward mode in a process.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")


@pytest.fixture
def arrays():
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    shapes = (5, 3), (7, 3), (7,)
    return tuple(
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    )


def loss_with(call, vocab_axis=0, function=linear_cross_entropy, **chunks):
    def loss(hidden, weight, bias):
        labels = torch.tensor([0, 6, -100, 3, 6])
        options = {"vocab_axis": vocab_axis, **call, **chunks}
        return function(hidden, weight, labels, bias=bias, **options)

    return loss


def total(losses):
    return losses.sum()


@pytest.mark.parametrize("vocab_axis", [0, 1])
@every_call
@pytest.mark.parametrize("chunks", [(2, 2), (7, 5), (3, 4)])
def test_gradcheck(arrays, chunks, call, vocab_axis):
    hidden, weight, bias = arrays
    weight = weight.detach().T.contiguous().requires_grad_() if vocab_axis == 1 else weight
    loss = loss_with(call, vocab_axis, vocab_chunk=chunks[0], token_chunk=chunks[1])
    # One pass hands out its sums once; the next backward computes them in another order.
    assert torch.autograd.gradcheck(loss, (hidden, weight, bias), nondet_tol=1e-13)


@every_call
@pytest.mark.parametrize(("first", "second"), list(product(range(3), range(3))))
def test_gradient_of_a_gradient(arrays, first, second, call):
    loss = total(loss_with(call, vocab_chunk=2)(*arrays))
    (gradient,) = torch.autograd.grad(loss, arrays[first], create_graph=True)
    with pytest.raises(RuntimeError, match=SECOND):
        torch.autograd.grad(gradient.sum(), arrays[second])


@every_call
def test_gradient_penalty(arrays, call):
    """The usual way to want one: a loss of a gradient, and backward."""
    hidden = arrays[HIDDEN]
    loss = total(loss_with(call)(*arrays))
    (gradient,) = torch.autograd.grad(loss, hidden, create_graph=True)
    with pytest.raises(RuntimeError, match=SECOND):
        (loss + gradient.square().sum()).backward()


@every_call
@pytest.mark.parametrize("argument", [HIDDEN, WEIGHT, BIAS])
def test_hessian(arrays, argument, call):
    def of_one(array):
        inputs = [array if i == argument else other for i, other in enumerate(arrays)]
        return total(loss_with(call)(*inputs))

    with pytest.raises(RuntimeError, match=SECOND):
        torch.autograd.functional.hessian(of_one, arrays[argument])


@every_call
def test_second_derivative_through_the_cotangent(arrays, call):
    """The gradient depends on what the loss is multiplied by: that is a second derivative."""
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    loss = scale * total(loss_with(call)(*arrays))
    (gradient,) = torch.autograd.grad(loss, arrays[HIDDEN], create_graph=True)
    with pytest.raises(RuntimeError, match=SECOND):
        torch.autograd.grad(gradient.sum(), scale)


@every_call
@pytest.mark.parametrize("argument", [HIDDEN, WEIGHT, BIAS])
def test_forward_mode(arrays, argument, call):
    primals = tuple(array.detach() for array in arrays)
    tangents = tuple(
        torch.ones_like(a) if i == argument else torch.zeros_like(a) for i, a in enumerate(primals)
    )
    with pytest.raises(RuntimeError, match=FORWARD):
        torch.func.jvp(loss_with(call), primals, tangents)


@every_call
def test_functional_second_derivatives(arrays, call):
    primals = tuple(array.detach() for array in arrays)

    def gradient(*inputs):
        return torch.func.grad(lambda *all_: total(loss_with(call)(*all_)))(*inputs)

    with pytest.raises(RuntimeError, match=SECOND):
        torch.func.grad(lambda *inputs: gradient(*inputs).sum())(*primals)
    with pytest.raises(RuntimeError, match="not supported"):
        torch.func.jvp(gradient, primals, tuple(map(torch.ones_like, primals)))


@every_call
def test_functional_gradient(arrays, call):
    """`torch.func.grad` gives what `backward` gives in two passes, which it has itself."""
    total(loss_with(call | {"strategy": "two_pass"})(*arrays)).backward()
    primals = tuple(array.detach() for array in arrays)
    gradients = torch.func.grad(lambda *inputs: total(loss_with(call)(*inputs)), argnums=(0, 1, 2))(
        *primals
    )
    for gradient, array in zip(gradients, arrays, strict=True):
        torch.testing.assert_close(gradient, array.grad, rtol=0, atol=0)


def test_the_standard_loss_has_second_derivatives(arrays):
    """What the message sends the reader to does work."""
    loss = loss_with(MEAN, function=standard_linear_cross_entropy)
    hessian = torch.autograd.functional.hessian(lambda hidden: loss(hidden, *arrays[1:]), arrays[0])
    assert hessian.any()
