"""Linen heads and models with one, plain or ours, for the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jax_impl.flax_linen import LMHead
from tests.jax_impl.flax_heads.cases import (
    CHUNKS,
    D,
    V,
    arrays,
)

KEY = jax.random.key(0)
WIDE = {"dtype": jnp.float64, "param_dtype": jnp.float64}


def make_head(**options: Any) -> tuple[LMHead, Any]:
    """With a bias that is not 0."""
    head = LMHead(V, **(WIDE | {"bias_init": nn.initializers.normal(1.0)} | options))
    return head, head.init(KEY, arrays()[0])


def make_embed(num_embeddings: int = V, **options: Any) -> nn.Embed:
    """Bound, as it is in a model."""
    embed = nn.Embed(num_embeddings, D, **({"param_dtype": jnp.float64} | options))
    return embed.bind(embed.init(KEY, jnp.zeros(1, jnp.int32)))


class Model(nn.Module):
    """A table, a layer and a head, which is plain or ours."""

    make_head: Callable[..., nn.Module]

    def setup(self) -> None:
        self.embed = nn.Embed(V, D, param_dtype=jnp.float64)
        self.body = nn.Dense(D, **WIDE)
        self.head = self.make_head(V, **WIDE)

    def hidden(self, tokens: jax.Array) -> jax.Array:
        return jnp.tanh(self.body(self.embed(tokens)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(self.hidden(tokens))

    def loss(self, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        return self.head.loss(self.hidden(tokens), labels, **CHUNKS)


class CompactModel(nn.Module):
    """The same in the other style, for training and inference by what it is given."""

    make_head: Callable[..., nn.Module]
    wrap: Callable[[Any], Any] = lambda head: head
    name_of_head: str | None = None

    @nn.compact
    def __call__(self, tokens: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        hidden = nn.Embed(V, D, param_dtype=jnp.float64)(tokens)
        hidden = jnp.tanh(nn.Dense(D, **WIDE)(hidden))
        head = self.wrap(self.make_head)(V, **WIDE, name=self.name_of_head)
        return head(hidden) if labels is None else head.loss(hidden, labels)


@jax.jit
@jax.value_and_grad
def plain_step(params: Any, tokens: jax.Array, labels: jax.Array) -> jax.Array:
    """Loss and gradients from the logits of the plain model."""
    logits = Model(nn.Dense).apply({"params": params}, tokens)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def value_and_grad(model: nn.Module, params: Any, *inputs: Any, **how: Any) -> Any:
    def loss(params):
        return model.apply({"params": params}, *inputs, **how)

    return jax.jit(jax.value_and_grad(loss))(params)
