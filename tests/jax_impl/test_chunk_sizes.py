"""For every N, V and pair of chunk sizes the answer is that of the reference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from jax_impl import linear_cross_entropy
from loss_spec.inputs import make_inputs
from loss_spec.reference import reference_linear_cross_entropy, relative_error

# A few hundred roundings of float64. The least that wrong chunks do, one class or one
# token of a dozen left out or counted twice, is twelve orders above.
ROUNDING = 1e-13

size = st.integers(1, 12)


# Every example is a compilation: few of them, and no search for a smaller one that fails.
@settings(
    deadline=None,
    derandomize=True,
    max_examples=10,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
@given(
    num_tokens=size,
    vocab_size=st.integers(2, 12),
    vocab_chunk=size,
    token_chunk=size,
    vocab_axis=st.sampled_from([0, 1]),
)
def test_any_chunk_sizes(num_tokens, vocab_size, vocab_chunk, token_chunk, vocab_axis):
    hidden, weight, labels = make_inputs(
        seed=0,
        num_tokens=num_tokens,
        hidden_dim=3,
        vocab_size=vocab_size,
        dtype="float64",
        ignored_fraction=0.2,
    )
    weight = weight if vocab_axis == 0 else weight.T
    bias = np.linspace(-1, 1, vocab_size)
    cotangent = np.linspace(-1, 2, num_tokens)

    def step(hidden, weight, bias):
        losses, pull = jax.vjp(
            lambda hidden, weight, bias: linear_cross_entropy(
                hidden,
                weight,
                labels,
                bias=bias,
                vocab_axis=vocab_axis,
                reduction="none",
                vocab_chunk=vocab_chunk,
                token_chunk=token_chunk,
            ),
            hidden,
            weight,
            bias,
        )
        return losses, *pull(jnp.asarray(cotangent))

    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        results = jax.jit(step)(hidden, weight, bias)
    expected = reference_linear_cross_entropy(
        hidden,
        weight,
        labels,
        bias=bias,
        vocab_axis=vocab_axis,
        reduction="none",
        cotangent=cotangent,
    )
    names = ("loss", "grad_hidden", "grad_weight", "grad_bias")
    for name, value in zip(names, results, strict=True):
        assert relative_error(np.asarray(value), getattr(expected, name)) < ROUNDING, name
