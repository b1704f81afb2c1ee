"""Under `torch.func`: batches of problems, and every kind of first derivative.

Whether forward mode and second derivatives raise is asked in test_derivatives.py.
"""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from torch.func import grad, hessian, jacfwd, jacrev, vjp, vmap

from torch_impl import linear_cross_entropy, standard_linear_cross_entropy

BATCH, NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 3, 5, 4, 7
CHUNKS = {"vocab_chunk": 3, "token_chunk": 2}
EVERYTHING = {"label_smoothing": 0.1, "logit_scale": 1.5, "logit_softcap": 2.0, "z_loss": 0.1}


def draw(*shape, seed=0):
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def loss_of(hidden, weight, labels, bias, class_weight, token_weight, **options):
    weights = {"class_weight": class_weight, "token_weight": token_weight}
    return linear_cross_entropy(
        hidden, weight, labels, bias=bias, **weights, **CHUNKS, **{**EVERYTHING, **options}
    )


def make_arrays(*batch):
    """Positional arguments of `loss_of`, each with these axes in front."""
    labels = draw(*batch, NUM_TOKENS).mul(1e3).long() % VOCAB_SIZE
    labels[..., 1] = -100
    return (
        draw(*batch, NUM_TOKENS, HIDDEN_DIM),
        draw(*batch, VOCAB_SIZE, HIDDEN_DIM, seed=1),
        labels,
        draw(*batch, VOCAB_SIZE, seed=2),
        draw(*batch, VOCAB_SIZE, seed=3).exp(),
        draw(*batch, NUM_TOKENS, seed=4).exp(),
    )


def alone(arrays, in_dims, index):
    """One problem of a batch, or what all share of it."""
    return [a if d is None else a.select(d, index) for a, d in zip(arrays, in_dims, strict=True)]


def assert_same(found, expected):
    """To the bit: each problem of a batch is computed as it would be alone."""
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


# Where the batch is, for hidden, weight, labels, bias, class_weight and token_weight.
IN_DIMS = {
    "all": (0, 0, 0, 0, 0, 0),
    "one head": (0, None, 0, None, None, 0),
    "one head, one token weight": (0, None, 0, None, None, None),
    "many heads": (None, 0, None, 0, None, None),
    "labels alone": (None, None, 0, None, None, None),
    "class weights alone": (None, None, None, None, 0, None),
    "last axes": (2, 2, 1, 1, 1, 1),
    "middle and negative": (1, -1, -1, -1, -1, -1),
}
every_in_dims = pytest.mark.parametrize("in_dims", IN_DIMS.values(), ids=IN_DIMS)
GRADIENT = grad(loss_of, argnums=(0, 1, 3))


def arranged(in_dims):
    """A batch of each argument where `in_dims` says, or the one that all share."""
    batched, single = make_arrays(BATCH), make_arrays()
    return [
        one if dim is None else many.movedim(0, dim)
        for many, one, dim in zip(batched, single, in_dims, strict=True)
    ]


@every_in_dims
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("return_aux", [False, True])
def test_batch_of_losses(in_dims, reduction, return_aux):
    def losses(*arrays):
        result = loss_of(*arrays, reduction=reduction, return_aux=return_aux)
        return (result[0], *result[1]) if return_aux else (result,)

    arrays = arranged(in_dims)
    found = vmap(losses, in_dims=in_dims)(*arrays)
    for index in range(BATCH):
        expected = losses(*alone(arrays, in_dims, index))
        assert_same(tuple(rows[index] for rows in found), expected)


@every_in_dims
def test_batch_of_gradients(in_dims):
    arrays = arranged(in_dims)
    found = vmap(GRADIENT, in_dims=in_dims)(*arrays)
    for index in range(BATCH):
        expected = GRADIENT(*alone(arrays, in_dims, index))
        assert_same(tuple(each[index] for each in found), expected)


@every_in_dims
def test_gradient_of_a_batch(in_dims):
    """That of what all problems share is a sum, whose order is free."""
    arrays = arranged(in_dims)
    found = grad(lambda *a: vmap(loss_of, in_dims=in_dims)(*a).sum(), argnums=(0, 1, 3))(*arrays)

    def one_after_the_other(*arrays):
        return sum(loss_of(*alone(arrays, in_dims, index)) for index in range(BATCH))

    expected = grad(one_after_the_other, argnums=(0, 1, 3))(*arrays)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_empty_batch_of_full_logits(reduction):
    def loss(*arrays):
        *three, bias, class_weight, token_weight = arrays
        weights = {"class_weight": class_weight, "token_weight": token_weight}
        return standard_linear_cross_entropy(*three, bias=bias, **weights, reduction=reduction)

    expected = (0, NUM_TOKENS) if reduction == "none" else (0,)
    assert vmap(loss)(*make_arrays(0)).shape == expected
    found = vmap(grad(lambda *arrays: loss(*arrays).sum(), argnums=1))(*make_arrays(0))
    assert found.shape == (0, VOCAB_SIZE, HIDDEN_DIM)


def test_nested_batches():
    arrays = make_arrays(2, BATCH)
    found = vmap(vmap(GRADIENT))(*arrays)
    for outer in range(2):
        expected = vmap(GRADIENT)(*(array[outer] for array in arrays))
        assert_same(tuple(each[outer] for each in found), expected)


HIDDEN, WEIGHT = make_arrays()[:2]


def loss_of_labels(labels, weight=WEIGHT):
    return linear_cross_entropy(HIDDEN, weight, labels)


def gradient_of_labels(labels):
    return grad(partial(loss_of_labels, labels))(WEIGHT)


# What is mapped, the shape of the labels, where the wrong one is, and what it is called.
WRONG_LABELS = {
    "batch": (vmap(loss_of_labels), (3, 5), (1, 4), "labels[1, 4]"),
    "batch at the end": (vmap(loss_of_labels, in_dims=1), (5, 3), (4, 1), "labels[1, 4]"),
    "nested": (vmap(vmap(loss_of_labels)), (2, 3, 5), (1, 2, 4), "labels[1, 2, 4]"),
    "shared": (lambda y: vmap(partial(loss_of_labels, y))(WEIGHT[None]), (5,), (4,), "labels[4]"),
    "gradient": (vmap(gradient_of_labels), (3, 5), (1, 4), "labels[1, 4]"),
}


@pytest.mark.cpu_only("on a GPU, where nobody looks, its loss is NaN")
@pytest.mark.parametrize(
    ("mapped", "shape", "position", "name"), WRONG_LABELS.values(), ids=WRONG_LABELS
)
def test_a_wrong_label_is_named_by_its_place_in_the_batch(mapped, shape, position, name):
    """With the axis that is mapped over first, wherever it was."""
    labels = torch.zeros(shape, dtype=torch.int64)
    labels[position] = VOCAB_SIZE
    with pytest.raises(ValueError, match=re.escape(f"got {name} = {VOCAB_SIZE}")):
        mapped(labels)


@pytest.mark.parametrize("argument", [0, 1, 3])
def test_jacobian_of_the_losses_of_all_tokens(argument):
    arrays = make_arrays()
    found = jacrev(lambda *a: loss_of(*a, reduction="none"), argnums=argument)(*arrays)
    for token in range(NUM_TOKENS):
        expected = grad(lambda *a, i=token: loss_of(*a, reduction="none")[i], argument)(*arrays)
        assert_same(found[token], expected)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_vjp(reduction):
    hidden, weight, labels, *others = make_arrays()

    def loss(hidden, weight, *others):
        return loss_of(hidden, weight, labels, *others, reduction=reduction)

    primals = hidden, weight, *others
    value, pull = vjp(loss, *primals)
    assert_same(value, loss(*primals))
    cotangent = draw(*value.shape, seed=5)
    expected = grad(lambda *a: (cotangent * loss(*a)).sum(), argnums=(0, 1, 2))(*primals)
    *found, grad_class_weight, grad_token_weight = pull(cotangent)
    assert_same(tuple(found), expected)
    assert not grad_class_weight.any()  # a constant of the loss
    assert not grad_token_weight.any()


@pytest.mark.parametrize("strategy", ["one_pass", "auto"])
def test_other_strategies_have_two_passes(strategy):
    """Not only those of a mean of `torch.func.grad`, but of batches of it."""
    given = partial(loss_of, strategy=strategy)
    expected = grad(partial(loss_of, strategy="two_pass"), argnums=(0, 1, 3))(*make_arrays())
    assert_same(grad(given, argnums=(0, 1, 3))(*make_arrays()), expected)
    batch = tuple(array[None] for array in make_arrays())
    found = vmap(grad(given, argnums=(0, 1, 3)))(*batch)
    assert_same(tuple(rows[0] for rows in found), expected)


def test_aux_beside_a_gradient():
    arrays = make_arrays()
    expected = loss_of(*arrays, return_aux=True)[1]
    gradient, aux = grad(lambda *a: loss_of(*a, return_aux=True), has_aux=True)(*arrays)
    assert_same(gradient, grad(loss_of)(*arrays))
    assert_same(tuple(aux), tuple(expected))


# PyTorch's own, from the first use of forward mode in a process.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("transform", [jacfwd, hessian, lambda f: jacrev(jacrev(f))])
def test_derivatives_that_there_are_not(transform):
    with pytest.raises(RuntimeError, match=r"linear_cross_entropy: .* not supported"):
        transform(loss_of)(*make_arrays())
