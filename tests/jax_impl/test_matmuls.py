"""How many matrix products a call is made of: none that nobody asked for."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest

from jax_impl import linear_cross_entropy
from tests.jax_impl.programs import (
    abstract_arrays,
    count_matmuls,
    equations,
    tokens_of_a_loop,
)

HIDDEN, WEIGHT, BIAS = range(3)

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 15, 8, 507

# The logits, in two passes once more for the backward, and one for each large gradient.
MATMULS = {
    "both": ((HIDDEN, WEIGHT), {"two_pass": 4, "one_pass": 3}),
    "all": ((HIDDEN, WEIGHT, BIAS), {"two_pass": 4, "one_pass": 3}),
    "frozen weight": ((HIDDEN,), {"two_pass": 3, "one_pass": 2}),
    "frozen hidden": ((WEIGHT,), {"two_pass": 3, "one_pass": 2}),
    "bias alone": ((BIAS,), {"two_pass": 2, "one_pass": 1}),
}
every_strategy = pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])
CHUNKS = {"ragged": (100, 7), "dividing": (169, 5), "whole": (507, 15)}


def loss(hidden, weight, bias, labels, **options):
    return linear_cross_entropy(hidden, weight, labels, bias=bias, **options)


@pytest.fixture
def arrays():
    hidden, weight, labels = abstract_arrays(NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE)
    return hidden, weight, jax.ShapeDtypeStruct((VOCAB_SIZE,), jnp.float32), labels


def count(function, arrays, token_chunk=NUM_TOKENS):
    rows = tokens_of_a_loop(NUM_TOKENS, token_chunk)
    return count_matmuls(function, *arrays, one=(rows, HIDDEN_DIM, VOCAB_SIZE))


@every_strategy
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
@pytest.mark.parametrize(("argnums", "expected"), MATMULS.values(), ids=MATMULS)
def test_gradients(arrays, argnums, expected, chunks, strategy):
    options = {"vocab_chunk": chunks[0], "token_chunk": chunks[1], "strategy": strategy}
    gradients = jax.grad(functools.partial(loss, **options), argnums)
    assert count(gradients, arrays, chunks[1]) == expected[strategy]


@every_strategy
def test_loss_alone(arrays, strategy):
    """Outside differentiation the forward runs, and nothing is kept for a backward."""
    assert count(functools.partial(loss, vocab_chunk=100, strategy=strategy), arrays) == 1


@every_strategy
def test_gradient_of_something_else(arrays, strategy):
    """Nothing that depends on the loss is differentiated: no backward."""

    def unrelated(hidden, *rest):
        return jnp.sum(hidden) + loss(jax.lax.stop_gradient(hidden), *rest, strategy=strategy)

    assert count(jax.grad(unrelated), arrays) == 1


@every_strategy
@pytest.mark.parametrize("precision", [None, "highest", jax.lax.Precision.HIGH])
def test_precision_reaches_every_matmul(arrays, precision, strategy):
    options = {"precision": precision, "vocab_chunk": 100, "strategy": strategy}
    step = jax.grad(functools.partial(loss, **options), (0, 1))
    precision = precision or jax.config.jax_default_matmul_precision  # set for a GPU
    expected = jax.lax.Precision(precision) if precision is not None else None
    found = {
        eqn.params["precision"]
        for eqn in equations(step, *arrays)
        if eqn.primitive.name == "dot_general"
    }
    assert found == {None if expected is None else (expected, expected)}


@pytest.fixture(params=[True, False], ids=["multiplies bfloat16", "widens"])
def multiplies_bfloat16(request, monkeypatch):
    """A CPU that has instructions for it, or one that has none."""
    monkeypatch.setattr("jax_impl.matmul.multiplies_bfloat16", lambda _: request.param)
    jax.clear_caches()  # what has been traced was traced for this machine's CPU
    yield request.param
    jax.clear_caches()


@pytest.mark.cpu_only("what a GPU multiplies is in tests/gpu/test_tensor_cores.py")
@every_strategy
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_operands_and_32_bit_products(dtype, strategy, multiplies_bfloat16):
    """Operands stay as they are where that is faster; what comes out is float32 everywhere."""
    arrays = abstract_arrays(NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE, dtype)
    options = {"vocab_chunk": 100, "strategy": strategy}
    step = jax.grad(functools.partial(linear_cross_entropy, **options), (0, 1))
    expected = dtype if multiplies_bfloat16 and dtype == "bfloat16" else "float32"
    for eqn in equations(step, *arrays):
        if eqn.primitive.name == "dot_general":
            assert [operand.aval.dtype for operand in eqn.invars] == [expected, expected]
            assert eqn.outvars[0].aval.dtype == jnp.float32
