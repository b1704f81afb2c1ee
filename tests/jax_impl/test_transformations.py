"""What a training program asks of a JAX function: traced, abstract, donated, static, with aux."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl import linear_cross_entropy
from loss_spec.inputs import make_inputs
from tests.jax_impl.programs import abstract_arrays
from tests.jax_impl.rounding import assert_same

NUM_TOKENS, HIDDEN_DIM, VOCAB_SIZE = 15, 8, 507
CHUNKS = {"vocab_chunk": 100, "token_chunk": 7}
loss = functools.partial(linear_cross_entropy, **CHUNKS)
loss_with_aux = functools.partial(loss, return_aux=True)


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


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_abstract_values(dtype, reduction):
    """Shapes and dtypes of everything, from shapes and dtypes alone."""
    with jax.enable_x64(dtype == "float64"):
        hidden, weight, labels = abstract_arrays(12, 8, 507, dtype)
        hidden = jax.ShapeDtypeStruct((3, 4, 8), dtype)
        labels = jax.ShapeDtypeStruct((3, 4), labels.dtype)

        def step(hidden, weight, bias):
            def function(*inputs):
                return loss_with_aux(*inputs[:2], labels_, bias=inputs[2], reduction=reduction)

            labels_ = jnp.zeros(labels.shape, labels.dtype)
            value, pull, aux = jax.vjp(function, hidden, weight, bias, has_aux=True)
            return value, pull(jnp.ones_like(value)), aux

        bias = jax.ShapeDtypeStruct((507,), dtype)
        value, gradients, aux = jax.eval_shape(step, hidden, weight, bias)
    wide = "float64" if dtype == "float64" else "float32"
    shape = labels.shape if reduction == "none" else ()
    assert (value.shape, value.dtype) == (shape, wide)
    for gradient, array in zip(gradients, (hidden, weight, bias), strict=True):
        assert (gradient.shape, gradient.dtype) == (array.shape, array.dtype)
    assert [leaf.dtype for leaf in aux] == [wide, wide, "int32", "int32"]
    assert [leaf.shape for leaf in aux] == [labels.shape] * 3 + [()]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_jacobian(reduction):
    """Row by row: the backward under vmap, one cotangent for each token."""
    hidden, weight, labels = arrays()
    of = functools.partial(loss, reduction=reduction)
    jacobian = jax.jit(jax.jacrev(of, (0, 1)))(hidden, weight, labels)
    value, pull = jax.vjp(lambda *inputs: of(*inputs, labels), hidden, weight)
    for token in np.ndindex(value.shape):
        gradients = pull(jnp.zeros_like(value).at[token].set(1))
        assert_same(jax.tree.map(lambda rows, token=token: rows[token], jacobian), gradients)


def test_linearize_refuses_when_it_is_applied():
    """`linearize` itself runs the forward alone, as `vjp` does."""
    hidden, weight, labels = arrays()
    value, linear = jax.linearize(lambda hidden: loss(hidden, weight, labels), hidden)
    assert np.isfinite(value)
    for apply in (linear, jax.jit(linear), lambda tangent: jax.vmap(linear)(tangent[None])):
        with pytest.raises(TypeError, match="forward-mode"):
            apply(hidden)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("donated", [(0,), (0, 1)])
def test_donation(donated, dtype):
    """A gradient may take the place of its input, which a chunked loss still has to read.

    Each fits the buffer of its input, so no donation is unusable: that would be a warning.
    """
    inputs = arrays(dtype)
    step = jax.value_and_grad(loss, (0, 1))
    expected = jax.jit(step)(*inputs)
    assert_same(jax.jit(step, donate_argnums=donated)(*inputs), expected)
    assert [array.is_deleted() for array in inputs] == [i in donated for i in range(3)]


WRAP = {
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "vmap": lambda f: lambda *arrays: jax.vmap(f)(*(array[None] for array in arrays)),
}


@pytest.mark.parametrize("wrap", WRAP.values(), ids=WRAP)
def test_forward_mode_is_refused_through_other_transformations(wrap):
    hidden, weight, labels = arrays()
    with pytest.raises(TypeError, match="forward-mode"):
        jax.eval_shape(jax.jacfwd(wrap(loss)), hidden, weight, labels)
