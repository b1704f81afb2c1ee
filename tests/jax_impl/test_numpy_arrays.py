"""NumPy arrays are taken like JAX's own, in every place."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl import linear_cross_entropy, standard_linear_cross_entropy
from loss_spec.inputs import make_inputs


def arrays():
    return make_inputs(seed=0, num_tokens=9, hidden_dim=8, vocab_size=50, dtype="float32")


def test_loss_of_numpy_arrays():
    got = linear_cross_entropy(*arrays(), vocab_chunk=20)
    assert isinstance(got, jax.Array)
    assert got == linear_cross_entropy(*map(jnp.asarray, arrays()), vocab_chunk=20)


@pytest.mark.parametrize("loss", [linear_cross_entropy, standard_linear_cross_entropy])
@pytest.mark.parametrize(("name", "length"), [("class_weight", 50), ("token_weight", 9)])
def test_weights_are_numpy_arrays(loss, name, length):
    weights = np.linspace(0.5, 2, length, dtype=np.float32)
    got = loss(*arrays(), **{name: weights})
    assert got == loss(*arrays(), **{name: jnp.asarray(weights)})
    assert got != loss(*arrays())


@pytest.mark.parametrize("label", [2**32 + 1, -(2**32) - 100])
def test_label_that_only_64_bits_can_hold(label):
    """Without x64 JAX would make of it a plausible 1, or a -100 to be ignored."""
    hidden, weight, labels = arrays()
    labels = np.asarray(labels, np.int64)
    labels.flat[0] = label
    with pytest.raises(ValueError, match=str(label)):
        linear_cross_entropy(hidden, weight, labels)
