"""`LossAux`, and the options that are arrays: constants, for which nothing is computed."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl import LossAux, linear_cross_entropy
from loss_spec.inputs import make_inputs
from tests.jax_impl.programs import count_matmuls, equations, tokens_of_a_loop
from tests.jax_impl.rounding import assert_same

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 15, 8, 507
CHUNKS = {"vocab_chunk": 100, "token_chunk": 7}
loss = functools.partial(linear_cross_entropy, strategy="two_pass", **CHUNKS)
loss_with_aux = functools.partial(loss, return_aux=True)


def count(function, *arrays):
    """Of the matmuls, in units of that of the logits."""
    rows = tokens_of_a_loop(NUM_TOKENS, CHUNKS["token_chunk"])
    return count_matmuls(function, *arrays, one=(rows, HIDDEN_DIM, VOCAB_SIZE))


def arrays(dtype="float32"):
    inputs = make_inputs(
        seed=0,
        num_tokens=NUM_TOKENS,
        hidden_dim=HIDDEN_DIM,
        vocab_size=VOCAB_SIZE,
        dtype=dtype,
        ignored_fraction=0.2,
    )
    return tuple(map(jnp.asarray, inputs))


def test_aux_beside_the_value():
    """`value_and_grad(has_aux=True)` of the pair, as a training step wants it."""
    inputs = arrays()
    (value, aux), gradients = jax.jit(jax.value_and_grad(loss_with_aux, (0, 1), has_aux=True))(
        *inputs
    )
    assert isinstance(aux, LossAux)
    assert_same((value, gradients), jax.jit(jax.value_and_grad(loss, (0, 1)))(*inputs))
    assert_same(-jnp.sum(aux.log_prob) / aux.num_tokens.astype(jnp.float32), value)
    logits = jnp.matmul(inputs[0], inputs[1].T, precision="highest")
    counted = inputs[2] != -100
    expected = np.where(counted, np.argmax(logits, axis=1), -1)
    np.testing.assert_array_equal(aux.prediction, expected)


WRAP = {
    "plain": lambda f: f,
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "vmap": lambda f: lambda *arrays: jax.vmap(f)(*(array[None] for array in arrays)),
}


@pytest.mark.parametrize("wrap", WRAP.values(), ids=WRAP)
@pytest.mark.parametrize("field", ["logsumexp", "log_prob"])
def test_aux_is_constant(field, wrap):
    """Gradients of exactly 0, for which no backward runs: 1 matmul, of the forward."""

    def of_aux(*arrays):
        return jnp.sum(getattr(wrap(loss_with_aux)(*arrays)[1], field))

    step = jax.value_and_grad(of_aux, (0, 1))
    assert count(step, *arrays()) == 1
    value, gradients = step(*arrays())
    assert value != 0
    assert not any(gradient.any() for gradient in gradients)


def test_aux_has_no_array_of_the_classes():
    """Nothing in the program has an axis of V, but the weight that comes in."""
    shapes = [
        variable.aval.shape
        for equation in equations(loss_with_aux, *arrays())
        for variable in equation.outvars
    ]
    tile = CHUNKS["vocab_chunk"] * max(CHUNKS["token_chunk"], HIDDEN_DIM)
    assert not any(VOCAB_SIZE in shape for shape in shapes)
    assert max(map(math.prod, shapes)) == tile


def test_weights_are_constants():
    """A gradient of 0 without a backward, though tokens and classes have other weights."""
    hidden, weight, labels = arrays()

    def weighted(class_weight, token_weight):
        return loss(hidden, weight, labels, class_weight=class_weight, token_weight=token_weight)

    weights = jnp.linspace(0.5, 2, VOCAB_SIZE), jnp.linspace(2, 0.5, NUM_TOKENS)
    step = jax.value_and_grad(weighted, (0, 1))
    assert count(step, *weights) == 1
    value, gradients = step(*weights)
    assert value != loss(hidden, weight, labels)
    assert not any(gradient.any() for gradient in gradients)
