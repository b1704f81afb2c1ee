"""NumPy arrays are taken like JAX's own, in every place."""

from __future__ import annotations

import re

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


LOSSES = [linear_cross_entropy, standard_linear_cross_entropy]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("as_given", [np.asarray, np.ndarray.tolist], ids=["array", "list"])
@pytest.mark.parametrize("ignore_index", [2**40 + 3, -(2**40), 2**32 - 100, -(2**63)])
def test_ignore_index_that_only_64_bits_can_hold(loss, as_given, ignore_index):
    """Its tokens are ignored too: without x64 JAX would make plausible classes of them."""
    hidden, weight, labels = arrays()
    labels = np.asarray(labels, np.int64)
    expected = loss(hidden, weight, np.where(np.arange(9) % 3, labels, -100), reduction="none")
    labels[::3] = ignore_index
    got = loss(hidden, weight, as_given(labels), ignore_index=ignore_index, reduction="none")
    np.testing.assert_array_equal(got, expected)

    def of_constants(hidden):
        return loss(hidden, weight, as_given(labels), ignore_index=ignore_index, reduction="none")

    np.testing.assert_array_equal(jax.jit(of_constants)(hidden) == 0, expected == 0)


@pytest.mark.parametrize("loss", LOSSES)
def test_labels_in_a_list(loss):
    hidden, weight, labels = arrays()
    assert loss(hidden, weight, labels.tolist()) == loss(hidden, weight, labels)


NO_ARRAY = {
    "text": ("hidden", "x", "an array, got str"),
    "None": ("weight", None, "an array, got NoneType"),
    "ragged lists": ("weight", [[1.0, 2.0], [3.0]], "an array, got list"),
    "text as labels": ("labels", "x", "an array, got str"),
    "None as labels": ("labels", None, "an array, got NoneType"),
    "ragged labels": ("labels", [[1, 2], [3]], "an array, got list"),
    "labels beyond 64 bits": ("labels", [2**70] * 9, "an array, got list"),
    "a dict": ("bias", {}, "an array, got dict"),
    "array of text": ("class_weight", np.array(["a"]), "an array, got ndarray of dtype str32"),
    "beyond float64": ("token_weight", [10**400] * 9, "an array, got list"),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("name", "value", "words"), NO_ARRAY.values(), ids=NO_ARRAY)
def test_what_is_no_array(loss, name, value, words):
    given = dict(zip(("hidden", "weight", "labels"), arrays(), strict=True))
    with pytest.raises(TypeError, match=f"^{name}: expected {re.escape(words)}$"):
        loss(**given | {name: value})
