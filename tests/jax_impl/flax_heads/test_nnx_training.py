"""NNX: what Flax and Optax do with a head."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jax_impl.flax_nnx import LMHead
from tests.jax_impl.flax_heads.cases import (
    assert_identical,
    batch,
)
from tests.jax_impl.flax_heads.nnx_models import (
    Model,
    model_loss,
    plain_step,
)
from tests.jax_impl.rounding import assert_same


@pytest.mark.parametrize("transform", [nnx.jit, nnx.remat])
def test_transforms(transform):
    """Inside the gradient; training, below, has it around."""
    model, (tokens, labels) = Model(LMHead), batch()
    step = nnx.jit(nnx.value_and_grad(transform(model_loss)))
    assert_same(step(model, tokens, labels), plain_step(model, tokens, labels))


@pytest.mark.usefixtures("standard_promotion")
def test_trains_as_the_plain_head_does():
    @nnx.jit
    @nnx.value_and_grad
    def our_step(model, tokens, labels):
        return model_loss(model, tokens, labels)

    @nnx.jit
    def update(model, optimizer, gradients):
        optimizer.update(model, gradients)

    def train(model, step):
        optimizer, losses = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param), []
        for _ in range(4):
            loss, gradients = step(model, *batch())
            update(model, optimizer, gradients)
            losses.append(loss)
        return losses, jax.tree.leaves(nnx.state(model))

    losses, trained = train(Model(LMHead), our_step)
    plain_losses, plain_trained = train(Model(nnx.Linear), plain_step)
    assert losses[-1] < losses[0] - 0.01
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-12)
    for one, other in zip(trained, plain_trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.usefixtures("standard_promotion")
def test_gradient_accumulation():
    """Four micro-batches make the step of one batch, and nothing before the fourth."""
    parts, (tokens, labels) = Model(LMHead), batch()
    initial = jax.tree.map(jnp.copy, nnx.state(parts))

    @nnx.jit
    def step(model, optimizer, tokens, labels):
        optimizer.update(model, nnx.grad(model_loss)(model, tokens, labels))

    transformation = optax.MultiSteps(optax.sgd(0.5), 4, accumulator_dtype=jnp.float64)
    optimizer = nnx.Optimizer(parts, transformation, wrt=nnx.Param)
    for part in range(4):
        assert_identical(nnx.state(parts), initial)
        here = slice(2 * part, 2 * part + 2)
        step(parts, optimizer, tokens[here], labels[here])
    _, gradients = plain_step(Model(nnx.Linear), tokens, labels)
    assert_same(nnx.state(parts), jax.tree.map(lambda p, g: p - 0.5 * g, initial, gradients))
