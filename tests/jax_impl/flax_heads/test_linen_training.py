"""Linen: what Flax and Optax do with a head."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

from jax_impl.flax_linen import LMHead
from tests.jax_impl.flax_heads.cases import (
    assert_identical,
    batch,
)
from tests.jax_impl.flax_heads.linen_models import (
    KEY,
    CompactModel,
    Model,
    plain_step,
    value_and_grad,
)
from tests.jax_impl.rounding import assert_same

REMATS = {
    "remat of the model": nn.remat(CompactModel)(LMHead),
    "remat of the head": CompactModel(LMHead, wrap=lambda c: nn.remat(c, methods=["loss"])),
}


@pytest.mark.parametrize("model", REMATS.values(), ids=REMATS)
def test_remat(model):
    tokens, labels = batch()
    params = model.init(KEY, tokens, labels)["params"]
    (head,) = (name for name in params if "LMHead" in name)
    named = {"embed": params["Embed_0"], "body": params["Dense_0"], "head": params[head]}
    expected, gradients = plain_step(named, tokens, labels)
    gradients = {
        "Embed_0": gradients["embed"],
        "Dense_0": gradients["body"],
        head: gradients["head"],
    }
    assert_same(value_and_grad(model, params, tokens, labels), (expected, gradients))


def test_scan_over_micro_batches():
    """`nn.scan` with broadcast parameters: the mean over the parts is that of the whole."""
    tokens, labels = batch()
    model = Model(LMHead)
    params = model.init(KEY, tokens)["params"]
    parts = tokens.reshape(4, 2, 5), labels.reshape(4, 2, 5)

    def scanned(model, tokens, labels):
        step = nn.scan(
            lambda model, carry, part: (carry + model.loss(*part), None),
            variable_broadcast="params",
            split_rngs={"params": False},
        )
        return step(model, jnp.zeros(()), (tokens, labels))[0] / 4

    result = value_and_grad(model, params, *parts, method=scanned)
    assert_same(result, plain_step(params, tokens, labels))


@pytest.mark.usefixtures("standard_promotion")
def test_train_state_trains_as_with_the_plain_head():
    model, (tokens, labels) = Model(LMHead), batch()
    params = model.init(KEY, tokens, labels, method="loss")["params"]

    @jax.jit
    @jax.value_and_grad
    def our_step(params, tokens, labels):
        return model.apply({"params": params}, tokens, labels, method="loss")

    @jax.jit
    def update(state, gradients):
        return state.apply_gradients(grads=gradients)

    def train(step):
        state, losses = initial, []
        for _ in range(4):
            loss, gradients = step(state.params, tokens, labels)
            state = update(state, gradients)
            losses.append(loss)
        return losses, jax.tree.leaves(state.params)

    initial = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-2))
    (losses, trained), (plain_losses, plain_trained) = train(our_step), train(plain_step)
    assert losses[-1] < losses[0] - 0.01
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-12)
    for one, other in zip(trained, plain_trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.usefixtures("standard_promotion")
def test_gradient_accumulation():
    """Four micro-batches make the step of one batch, and nothing before the fourth."""
    model, (tokens, labels) = Model(LMHead), batch()
    params = model.init(KEY, tokens)["params"]

    @jax.jit
    def step(state, tokens, labels):
        def loss(params):
            return state.apply_fn({"params": params}, tokens, labels, method="loss")

        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    transformation = optax.MultiSteps(optax.sgd(0.5), 4, accumulator_dtype=jnp.float64)
    parts = TrainState.create(apply_fn=model.apply, params=params, tx=transformation)
    for part in range(4):
        assert_identical(parts.params, params)
        here = slice(2 * part, 2 * part + 2)
        parts = step(parts, tokens[here], labels[here])
    _, gradients = plain_step(params, tokens, labels)
    assert_same(parts.params, jax.tree.map(lambda p, g: p - 0.5 * g, params, gradients))
