"""NNX heads and models with one, plain or ours, for the tests."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jax_impl.flax_nnx import LMHead, TiedLMHead
from tests.jax_impl.flax_heads.cases import (
    CHUNKS,
    D,
    V,
)

WIDE = {"dtype": jnp.float64, "param_dtype": jnp.float64}


def make_head(**options: Any) -> LMHead:
    """With a bias that is not 0."""
    options = WIDE | {"bias_init": nnx.initializers.normal(1.0)} | options
    return LMHead(D, V, rngs=nnx.Rngs(0), **options)


def make_embed(vocab_size: int = V, features: int = D, **options: Any) -> nnx.Embed:
    return nnx.Embed(
        vocab_size, features, rngs=nnx.Rngs(3), **{"param_dtype": jnp.float64, **options}
    )


def make_tied(**options: Any) -> TiedLMHead:
    options = {"param_dtype": jnp.float64, "bias_init": nnx.initializers.normal(1.0)} | options
    return TiedLMHead(V, D, rngs=nnx.Rngs(1), **options)


def with_values(module: Any, **values: jax.Array) -> Any:
    """The module with other values of its parameters."""
    graph, state = nnx.split(module)
    nnx.replace_by_pure_dict(state, values)
    return nnx.merge(graph, state)


class Model(nnx.Module):
    """A table, a layer and a head, which is plain or ours."""

    def __init__(self, head: type[nnx.Linear], **options: Any) -> None:
        rngs = nnx.Rngs(5)
        self.embed = nnx.Embed(V, D, param_dtype=jnp.float64, rngs=rngs)
        self.body = nnx.Linear(D, D, rngs=rngs, **WIDE)
        self.head = head(D, V, rngs=rngs, **WIDE, **options)

    def hidden(self, tokens: jax.Array) -> jax.Array:
        return jnp.tanh(self.body(self.embed(tokens)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(self.hidden(tokens))


def model_loss(model: Model, tokens: jax.Array, labels: jax.Array) -> jax.Array:
    return model.head.loss(model.hidden(tokens), labels, **CHUNKS)


@nnx.jit
@nnx.value_and_grad
def plain_step(model: Model, tokens: jax.Array, labels: jax.Array) -> jax.Array:
    """Loss and gradients from the logits."""
    losses = optax.softmax_cross_entropy_with_integer_labels(model(tokens), labels)
    return jnp.mean(losses)
