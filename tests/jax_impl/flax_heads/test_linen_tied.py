"""Linen: the head that borrows an embedding."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl import linear_cross_entropy, standard_linear_cross_entropy
from jax_impl.flax_linen import TiedLMHead
from tests.jax_impl.flax_heads.cases import (
    CASES,
    CHUNKS,
    LOGITS,
    D,
    V,
    arrays,
    assert_identical,
    batch,
    shaped,
    standard,
    value_and_gradients,
)
from tests.jax_impl.flax_heads.linen_models import (
    KEY,
    make_embed,
    value_and_grad,
)
from tests.jax_impl.rounding import assert_same


@pytest.mark.parametrize(("logit_options", "loss_options"), CASES.values(), ids=CASES)
def test_tied_loss_and_gradients(logit_options, loss_options):
    hidden, labels = arrays(ignored=loss_options.get("ignore_index", -100))
    head = TiedLMHead(V, D, use_bias=bool(logit_options), **logit_options)
    embed = make_embed()

    def loss(hidden, table, *bias):
        variables = {"params": {"bias": bias[0]}} if bias else {}
        bound = embed.bind({"params": {"embedding": table}})
        return head.apply(variables, hidden, labels, bound, method="loss", **loss_options)

    bias = jnp.linspace(-1.0, 1.0, V)
    inputs = hidden, embed.embedding, *([bias] if head.use_bias else [])
    expected = standard(labels, 0, **logit_options, **loss_options)
    assert_same(value_and_gradients(loss, *inputs), value_and_gradients(expected, *inputs))


@pytest.mark.parametrize("given", ["embed", "array", "boxed"])
def test_tied_logits_are_those_of_attend(given):
    hidden, labels = arrays()
    embed = make_embed()
    product, logit_options = embed.attend(hidden), LOGITS["everything"]
    boxed = nn.Partitioned(embed.embedding, ("vocab", "embed"))
    given = {"embed": embed, "array": embed.embedding, "boxed": boxed}[given]
    assert_identical(TiedLMHead(V, D).apply({}, hidden, given), product)

    head, bias = TiedLMHead(V, D, use_bias=True, **logit_options), jnp.linspace(-1.0, 1.0, V)
    head = head.bind({"params": {"bias": bias}})
    logits = head(hidden, given)
    assert_same(logits, shaped(product + bias, **logit_options))
    expected = standard_linear_cross_entropy(logits, np.eye(V), labels)
    assert_same(head.loss(hidden, labels, given), expected)


@pytest.mark.parametrize("dtype", [None, jnp.float32])
def test_tied_dtype(dtype):
    """That of the embedding as in attend, unless the head has one of its own."""
    hidden, labels = arrays("float32")
    embed = make_embed(dtype=jnp.bfloat16, param_dtype=jnp.float32)
    head = TiedLMHead(V, D, use_bias=True, dtype=dtype)
    variables = head.init(KEY, hidden, embed)
    expected = embed.attend(hidden) if dtype is None else hidden @ embed.embedding.T
    assert_identical(head.apply(variables, hidden, embed), expected)
    narrow = [array.astype(dtype or jnp.bfloat16) for array in (hidden, embed.embedding)]
    loss = head.apply(variables, hidden, labels, embed, method="loss")
    assert_same(loss, linear_cross_entropy(*narrow, labels))


def test_tied_head_owns_only_a_bias():
    hidden, labels = arrays()
    embed = make_embed()
    assert not jax.tree.leaves(TiedLMHead(V, D).init(KEY, hidden, embed))
    bias = {"param_dtype": jnp.bfloat16, "bias_init": nn.initializers.ones}
    head = TiedLMHead(V, D, use_bias=True, **bias)
    variables = {"params": {"bias": jnp.ones(V, jnp.bfloat16)}}
    assert_identical(head.init(KEY, hidden, embed), variables)
    assert_identical(head.init(KEY, hidden, labels, embed, method="loss"), variables)


class TiedModel(nn.Module):
    """A square one: V equal to D is no riddle when the module says which axis is which."""

    def setup(self) -> None:
        self.embed = nn.Embed(D, D, param_dtype=jnp.float64)
        self.head = TiedLMHead(D, D, logit_softcap=1.5)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(jnp.tanh(self.embed(tokens)), self.embed)

    def loss(self, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        return self.head.loss(jnp.tanh(self.embed(tokens)), labels, self.embed, **CHUNKS)


class CompactTiedModel(nn.Module):
    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        embed = nn.Embed(D, D, param_dtype=jnp.float64, name="embed")
        return TiedLMHead(D, D, logit_softcap=1.5)(jnp.tanh(embed(tokens)), embed)


def test_gradient_of_a_shared_table_is_the_sum_of_both_uses():
    tokens, labels = (array % D for array in batch())
    model = TiedModel()
    params = model.init(KEY, tokens, labels, method="loss")["params"]
    table = params["embed"]["embedding"]
    assert_identical(params, {"embed": {"embedding": table}})

    def loss(table_in, table_out):
        hidden = jnp.tanh(table_in[tokens])
        return standard_linear_cross_entropy(hidden, table_out, labels, logit_softcap=1.5)

    expected, (of_input, of_output) = jax.jit(jax.value_and_grad(loss, (0, 1)))(table, table)
    assert jnp.abs(of_input).max() > 1e-3
    value, gradient = value_and_grad(model, params, tokens, labels, method="loss")
    assert_same(value, expected)
    assert_same(gradient["embed"]["embedding"], of_input + of_output)

    variables = CompactTiedModel().init(KEY, tokens)
    assert_identical(variables, {"params": params})
    logits = CompactTiedModel().apply(variables, tokens)
    assert_identical(logits, model.apply(variables, tokens))
    assert_same(logits, shaped(jnp.tanh(table[tokens]) @ table.T, logit_softcap=1.5))
