"""How many matrix products a call is made of: none that nobody asked for."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest

from jax_impl import linear_cross_entropy
from tests.jax_impl.programs import abstract_arrays, count_matmuls, equations

HIDDEN, WEIGHT, BIAS = range(3)

# Of the forward 1; of the backward the logits again, and one for each large gradient.
MATMULS = {
    "both": ((HIDDEN, WEIGHT), 4),
    "all": ((HIDDEN, WEIGHT, BIAS), 4),
    "frozen weight": ((HIDDEN,), 3),
    "frozen hidden": ((WEIGHT,), 3),
    "bias alone": ((BIAS,), 2),
}
CHUNKS = {"ragged": (100, 7), "dividing": (169, 5), "whole": (507, 15)}


def loss(hidden, weight, bias, labels, **options):
    return linear_cross_entropy(hidden, weight, labels, bias=bias, **options)


@pytest.fixture
def arrays():
    hidden, weight, labels = abstract_arrays(15, 8, 507)
    return hidden, weight, jax.ShapeDtypeStruct((507,), jnp.float32), labels


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(("argnums", "expected"), MATMULS.values(), ids=MATMULS)
def test_gradients(arrays, argnums, expected, chunks):
    options = {"vocab_chunk": chunks[0], "token_chunk": chunks[1]}
    gradients = jax.grad(functools.partial(loss, **options), argnums)
    assert count_matmuls(gradients, *arrays) == expected


def test_loss_alone(arrays):
    """Outside differentiation the forward runs, and nothing is kept for a backward."""
    assert count_matmuls(functools.partial(loss, vocab_chunk=100), *arrays) == 1


def test_gradient_of_something_else(arrays):
    """Nothing that depends on the loss is differentiated: no backward."""

    def unrelated(hidden, *rest):
        return jnp.sum(hidden) + loss(jax.lax.stop_gradient(hidden), *rest)

    assert count_matmuls(jax.grad(unrelated), *arrays) == 1


@pytest.mark.parametrize("precision", [None, "highest", jax.lax.Precision.HIGH])
def test_precision_reaches_every_matmul(arrays, precision):
    step = jax.grad(functools.partial(loss, precision=precision, vocab_chunk=100), (0, 1))
    expected = jax.lax.Precision(precision) if precision is not None else None
    found = [
        eqn.params["precision"]
        for eqn in equations(step, *arrays)
        if eqn.primitive.name == "dot_general"
    ]
    assert found == [None if expected is None else (expected, expected)] * 4


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_operands_and_32_bit_products(dtype):
    """What keeps the matmuls on tensor cores, and the sums right."""
    arrays = abstract_arrays(15, 8, 507, dtype)
    step = jax.grad(functools.partial(linear_cross_entropy, vocab_chunk=100), (0, 1))
    for eqn in equations(step, *arrays):
        if eqn.primitive.name == "dot_general":
            assert [operand.aval.dtype for operand in eqn.invars] == [dtype, dtype]
            assert eqn.outvars[0].aval.dtype == jnp.float32
