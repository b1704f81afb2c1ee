"""Flax NNX: heads, and models with one, by the names that both kinds have."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jax_impl.flax_nnx import LMHead, TiedLMHead
from tests.jax_impl.flax_heads.cases import D, V, model_values, tied_values

LIBRARY = "nnx"
PlainHead = nnx.Linear
WIDE = {"dtype": jnp.float64, "param_dtype": jnp.float64}


def new(head_type: type[nnx.Linear], vocab_size: int = V, features: int = D, **options: Any) -> Any:
    return head_type(features, vocab_size, rngs=nnx.Rngs(0), **options)


def make_head(**options: Any) -> LMHead:
    """With a bias that is not 0."""
    return new(LMHead, **(WIDE | {"bias_init": nnx.initializers.normal(1.0)} | options))


def make_tied(vocab_size: int = V, features: int = D, **options: Any) -> TiedLMHead:
    return TiedLMHead(vocab_size, features, rngs=nnx.Rngs(1), **options)


def make_embed(vocab_size: int = V, features: int = D, **options: Any) -> nnx.Embed:
    return nnx.Embed(
        vocab_size, features, rngs=nnx.Rngs(3), **({"param_dtype": jnp.float64} | options)
    )


def with_metadata(name: str, initializer: Any) -> dict[str, Any]:
    """Options by which a parameter carries more than its values."""
    return {f"{name}_init": initializer, f"{name}_metadata": {"note": "sharded"}}


def boxed(array: jax.Array) -> nnx.Param:
    return nnx.Param(array)


def promote_to_float32(arrays: tuple[jax.Array, ...], dtype: Any) -> tuple[jax.Array, ...]:
    """A `promote_dtype` that does not ask the head."""
    return tuple(array.astype(jnp.float32) for array in arrays)


def state(module: nnx.Module) -> Any:
    """The parameters as checkpoints have them, with names and metadata."""
    return nnx.state(module)


def with_state(module: nnx.Module, state: Any) -> Any:
    return nnx.merge(nnx.graphdef(module), state)


def bias_of(head: Any) -> nnx.Param:
    """With its metadata."""
    return head.bias


def parameters(module: nnx.Module) -> dict[str, Any]:
    """The bare arrays, by name."""
    return nnx.to_pure_dict(nnx.state(module))


def with_values(module: nnx.Module, **values: Any) -> Any:
    """A copy with other values of its parameters."""
    state = nnx.state(module)
    nnx.replace_by_pure_dict(state, values)
    return with_state(module, state)


def logits(module: Any, *inputs: Any) -> jax.Array:
    return module(*inputs)


def loss(module: Any, *inputs: Any, **options: Any) -> Any:
    return module.loss(*inputs, **options)


def value_and_grad(module: Any, *inputs: Any, **options: Any) -> Any:
    """The loss, and the gradients of the module's parameters by name."""
    step = nnx.jit(nnx.value_and_grad(functools.partial(loss, **options)))
    value, gradients = step(module, *inputs)
    return value, nnx.to_pure_dict(gradients)


class Model(nnx.Module):
    """A table, a layer and a head, which is plain or ours."""

    def __init__(self, head_type: type[nnx.Linear]) -> None:
        rngs = nnx.Rngs(5)
        self.embed = nnx.Embed(V, D, param_dtype=jnp.float64, rngs=rngs)
        self.body = nnx.Linear(D, D, rngs=rngs, **WIDE)
        self.head = head_type(D, V, rngs=rngs, **WIDE)

    def hidden(self, tokens: jax.Array) -> jax.Array:
        return jnp.tanh(self.body(self.embed(tokens)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(self.hidden(tokens))

    def loss(self, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        return self.head.loss(self.hidden(tokens), labels)


def make_model(head_type: type[nnx.Linear]) -> Model:
    return with_values(nnx.eval_shape(lambda: Model(head_type)), **model_values())


class TiedModel(nnx.Module):
    """A square one: V equal to D is no riddle when the module says which axis is which."""

    def __init__(self) -> None:
        self.embed = make_embed(D, D)
        self.head = TiedLMHead(D, D, logit_softcap=1.5)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(jnp.tanh(self.embed(tokens)), self.embed)

    def loss(self, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        return self.head.loss(jnp.tanh(self.embed(tokens)), labels, self.embed)


def make_tied_model() -> TiedModel:
    return with_values(nnx.eval_shape(TiedModel), **tied_values())


def train(model: Model, transformation: Any, batches: list[Any]) -> list[Any]:
    """Loss, and parameters afterwards, of each step."""
    model = with_state(model, nnx.state(model))
    optimizer = nnx.Optimizer(model, transformation, wrt=nnx.Param)

    @nnx.jit
    def step(model: Model, optimizer: nnx.Optimizer, *batch: jax.Array) -> jax.Array:
        value, gradients = nnx.value_and_grad(Model.loss)(model, *batch)
        optimizer.update(model, gradients)
        return value

    steps = []
    for batch in batches:
        value = step(model, optimizer, *batch)
        steps.append((value, parameters(model)))
    return steps
