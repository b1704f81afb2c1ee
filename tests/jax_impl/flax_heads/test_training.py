"""What Optax does with a model that has a head."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.jax_impl.flax_heads.cases import assert_identical, batch, model_values
from tests.jax_impl.flax_heads.expected import adam_steps, model_step
from tests.jax_impl.flax_heads.kinds import KINDS
from tests.jax_impl.rounding import assert_same
from tests.tables import grid

pytestmark = pytest.mark.usefixtures("standard_promotion")  # Optax adds integers to floats


@grid(kind=KINDS)
def test_trains_as_with_full_logits(kind):
    batches = [batch()] * 4
    trained = kind.train(kind.make_model(kind.LMHead), optax.adam(1e-2), batches)
    expected = adam_steps(model_values(), batches, learning_rate=1e-2)
    losses, expected_losses = ([loss for loss, _ in steps] for steps in (trained, expected))
    assert losses[-1] < losses[0] - 0.01
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-12)
    (_, values), (_, expected_values) = trained[-1], expected[-1]
    assert jax.tree.structure(values) == jax.tree.structure(expected_values)
    for one, other in zip(*map(jax.tree.leaves, (values, expected_values)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


@grid(kind=KINDS)
def test_gradient_accumulation(kind):
    """Four micro-batches make the step of one batch, and nothing before the fourth."""
    tokens, labels = batch()
    parts = list(zip(tokens.reshape(4, 2, 5), labels.reshape(4, 2, 5), strict=True))
    transformation = optax.MultiSteps(optax.sgd(0.5), 4, accumulator_dtype=jnp.float64)
    steps = kind.train(kind.make_model(kind.LMHead), transformation, parts)
    initial = model_values()
    for _, unchanged in steps[:3]:
        assert_identical(unchanged, initial)
    _, gradients = model_step(initial, tokens, labels)
    trained = jax.tree.map(lambda p, g: p - 0.5 * g, initial, gradients)
    assert_same(steps[3][1], trained)
