"""Flax Linen: heads, and models with one, by the names that both kinds have.

A module is bound to its variables, so that it is one value as in NNX; its methods run by `apply`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.training.train_state import TrainState

from jax_impl.flax_linen import LMHead, TiedLMHead
from tests.jax_impl.flax_heads.cases import D, V, model_values, tied_values

LIBRARY = "nn"
PlainHead = nn.Dense
KEY = jax.random.key(0)
WIDE = {"dtype": jnp.float64, "param_dtype": jnp.float64}


def new(head_type: type[nn.Dense], vocab_size: int = V, features: int = D, **options: Any) -> Any:
    head = head_type(vocab_size, **options)
    hidden = jnp.zeros(features, options.get("param_dtype", jnp.float32))
    return head.bind(head.init(KEY, hidden))


def make_head(**options: Any) -> LMHead:
    """With a bias that is not 0."""
    return new(LMHead, **(WIDE | {"bias_init": nn.initializers.normal(1.0)} | options))


def make_tied(vocab_size: int = V, features: int = D, **options: Any) -> TiedLMHead:
    head = TiedLMHead(vocab_size, features, **options)
    return head.bind(head.init(KEY, method=lambda head: head.bias))


def make_embed(vocab_size: int = V, features: int = D, **options: Any) -> nn.Embed:
    embed = nn.Embed(vocab_size, features, **({"param_dtype": jnp.float64} | options))
    return embed.bind(embed.init(KEY, jnp.zeros(1, jnp.int32)))


def with_metadata(name: str, initializer: Any) -> dict[str, Any]:
    """Options by which a parameter carries more than its values."""
    axes = {"kernel": ("embed", "vocab"), "bias": ("vocab",)}[name]
    return {f"{name}_init": nn.with_partitioning(initializer, axes)}


def boxed(array: jax.Array) -> nn.Partitioned:
    return nn.Partitioned(array, ("vocab", "embed"))


def promote_to_float32(*arrays: jax.Array, dtype: Any) -> tuple[jax.Array, ...]:
    """A `promote_dtype` that does not ask the head."""
    return tuple(array.astype(jnp.float32) for array in arrays)


def state(module: nn.Module) -> Any:
    """The parameters as checkpoints have them, with names and metadata."""
    return module.variables


def with_state(module: nn.Module, state: Any) -> Any:
    return module.unbind()[0].bind(state)


def bias_of(head: nn.Module) -> Any:
    """With its metadata."""
    return head.variables["params"]["bias"]


def parameters(module: nn.Module) -> dict[str, Any]:
    """The bare arrays, by name."""
    return nn.unbox(module.variables).get("params", {})


def with_values(module: nn.Module, **values: Any) -> Any:
    """A copy with other values of its parameters."""
    return with_state(module, {"params": values})


def logits(module: nn.Module, *inputs: Any) -> jax.Array:
    module, variables = module.unbind()
    return module.apply(variables, *inputs)


def loss(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    module, variables = module.unbind()
    return module.apply(variables, *inputs, method="loss", **options)


def value_and_grad(module: nn.Module, *inputs: Any, **options: Any) -> Any:
    """The loss, and the gradients of the module's parameters by name."""
    module, variables = module.unbind()

    def loss(params: Any) -> jax.Array:
        return module.apply({"params": params}, *inputs, method="loss", **options)

    return jax.jit(jax.value_and_grad(loss))(variables["params"])


class Model(nn.Module):
    """A table, a layer and a head, which is plain or ours."""

    head_type: Callable[..., nn.Module]

    def setup(self) -> None:
        self.embed = nn.Embed(V, D, param_dtype=jnp.float64)
        self.body = nn.Dense(D, **WIDE)
        self.head = self.head_type(V, **WIDE)

    def hidden(self, tokens: jax.Array) -> jax.Array:
        return jnp.tanh(self.body(self.embed(tokens)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(self.hidden(tokens))

    def loss(self, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        return self.head.loss(self.hidden(tokens), labels)


def make_model(head_type: Callable[..., nn.Module]) -> Model:
    return Model(head_type).bind({"params": model_values()})


class TiedModel(nn.Module):
    """A square one: V equal to D is no riddle when the module says which axis is which."""

    def setup(self) -> None:
        self.embed = nn.Embed(D, D, param_dtype=jnp.float64)
        self.head = TiedLMHead(D, D, logit_softcap=1.5)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(jnp.tanh(self.embed(tokens)), self.embed)

    def loss(self, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        return self.head.loss(jnp.tanh(self.embed(tokens)), labels, self.embed)


def make_tied_model() -> TiedModel:
    return TiedModel().bind({"params": tied_values()})


class CompactModel(nn.Module):
    """`Model` in the other style, for training and inference by what it is given."""

    head_type: Callable[..., nn.Module]
    name_of_head: str | None = None

    @nn.compact
    def __call__(self, tokens: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        hidden = nn.Embed(V, D, param_dtype=jnp.float64)(tokens)
        hidden = jnp.tanh(nn.Dense(D, **WIDE)(hidden))
        head = self.head_type(V, **WIDE, name=self.name_of_head)
        return head(hidden) if labels is None else head.loss(hidden, labels)


class CompactTiedModel(nn.Module):
    """`TiedModel` in the other style."""

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        embed = nn.Embed(D, D, param_dtype=jnp.float64, name="embed")
        return TiedLMHead(D, D, logit_softcap=1.5)(jnp.tanh(embed(tokens)), embed)


def train(model: Model, transformation: Any, batches: list[Any]) -> list[Any]:
    """Loss, and parameters afterwards, of each step."""
    module, variables = model.unbind()

    @jax.jit
    def step(training: TrainState, *batch: jax.Array) -> tuple[TrainState, jax.Array]:
        def loss(params: Any) -> jax.Array:
            return training.apply_fn({"params": params}, *batch, method="loss")

        value, gradients = jax.value_and_grad(loss)(training.params)
        return training.apply_gradients(grads=gradients), value

    training = TrainState.create(
        apply_fn=module.apply, params=variables["params"], tx=transformation
    )
    steps = []
    for batch in batches:
        training, value = step(training, *batch)
        steps.append((value, training.params))
    return steps
