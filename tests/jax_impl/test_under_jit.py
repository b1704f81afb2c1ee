"""Under `jit` the same numbers as outside it, and NaN where a label cannot be refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl import linear_cross_entropy, standard_linear_cross_entropy
from loss_spec.inputs import make_inputs

CHUNKS = {"vocab_chunk": 20, "token_chunk": 4}
FUNCTIONS = {
    "chunked": (linear_cross_entropy, CHUNKS),
    "standard": (standard_linear_cross_entropy, {}),
}


def arrays(dtype="float32"):
    inputs = make_inputs(
        seed=0, num_tokens=9, hidden_dim=8, vocab_size=50, dtype=dtype, ignored_fraction=0.3
    )
    return tuple(jnp.asarray(array) for array in inputs)


@pytest.mark.parametrize(("dtype", "reduction"), [("bfloat16", "none"), ("float32", "mean")])
def test_same_under_jit(dtype, reduction):
    """To the rounding of a sum: fused into one program, XLA may add in another order."""
    hidden, weight, labels = arrays(dtype)

    def step(hidden, weight, labels):
        def loss(hidden, weight):
            losses = linear_cross_entropy(hidden, weight, labels, reduction=reduction, **CHUNKS)
            return jnp.sum(losses), losses

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(hidden, weight)

    outside, inside = step(hidden, weight, labels), jax.jit(step)(hidden, weight, labels)
    epsilon = float(jnp.finfo(dtype).eps)
    for one, other in zip(jax.tree.leaves(outside), jax.tree.leaves(inside), strict=True):
        assert one.dtype == other.dtype
        one, other = (np.asarray(array, np.float64) for array in (one, other))
        np.testing.assert_allclose(
            other, one, rtol=4 * epsilon, atol=4 * epsilon * np.abs(one).max()
        )


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_label_out_of_range_is_nan(function):
    """In the loss and in the gradients of all that it touches: never a plausible number."""
    loss, chunks = function
    hidden, weight, labels = arrays()
    wrong = {1: 50, 3: 2**31 - 1, 4: -1, 6: -2, 8: -99}
    labels = labels.at[jnp.array(list(wrong))].set(jnp.array(list(wrong.values())))

    @jax.jit
    def step(hidden, weight, labels):
        def total(hidden, weight):
            losses = loss(hidden, weight, labels, reduction="none", **chunks)
            return jnp.sum(losses), losses

        return jax.grad(total, (0, 1), has_aux=True)(hidden, weight)

    (grad_hidden, grad_weight), losses = step(hidden, weight, labels)
    assert np.flatnonzero(np.isnan(losses)).tolist() == list(wrong)
    assert np.flatnonzero(np.isnan(grad_hidden).all(axis=1)).tolist() == list(wrong)
    assert np.isnan(grad_weight).any()
    assert np.isnan(jax.jit(lambda *args: loss(*args, **chunks))(hidden, weight, labels))


@pytest.mark.cpu_only("on a GPU, where nobody looks, its loss is NaN")
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_label_out_of_range_is_refused_where_it_can_be_read(function):
    """Concrete labels inside a gradient are still concrete."""
    loss, chunks = function
    hidden, weight, labels = arrays()
    labels = labels.at[3].set(50)
    expected = r"^labels: expected values in \[0, 50\) or ignore_index, got labels\[3\] = 50\b"
    with pytest.raises(ValueError, match=expected):
        loss(hidden, weight, labels, **chunks)
    with pytest.raises(ValueError, match=expected):
        jax.grad(loss)(hidden, weight, labels, **chunks)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_all_ignored_under_jit(function):
    loss, chunks = function
    hidden, weight, labels = arrays()
    step = jax.jit(jax.value_and_grad(lambda *args: loss(*args, **chunks), (0, 1)))
    value, grads = step(hidden, weight, jnp.full_like(labels, -100))
    assert value == 0
    assert not any(grad.any() for grad in grads)
