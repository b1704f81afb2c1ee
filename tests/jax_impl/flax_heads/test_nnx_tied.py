"""NNX: the head that borrows an embedding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_impl import linear_cross_entropy, standard_linear_cross_entropy
from jax_impl.flax_nnx import TiedLMHead
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
from tests.jax_impl.flax_heads.nnx_models import (
    make_embed,
    make_tied,
    with_values,
)
from tests.jax_impl.rounding import assert_same


@pytest.mark.parametrize(("logit_options", "loss_options"), CASES.values(), ids=CASES)
def test_tied_loss_and_gradients(logit_options, loss_options):
    use_bias = bool(logit_options)
    embed, head = make_embed(), make_tied(use_bias=use_bias, **logit_options)
    hidden, labels = arrays(ignored=loss_options.get("ignore_index", -100))

    def loss(hidden, table, *bias):
        ours = with_values(head, bias=bias[0]) if bias else head
        tied = with_values(embed, embedding=table)
        return ours.loss(hidden, labels, tied, **loss_options)

    inputs = hidden, embed.embedding[...], *([head.bias[...]] if use_bias else [])
    expected = standard(labels, 0, **logit_options, **loss_options)
    assert_same(value_and_gradients(loss, *inputs), value_and_gradients(expected, *inputs))


@pytest.mark.parametrize("table", ["embed", "param", "array"])
def test_tied_logits_are_those_of_attend(table):
    hidden, labels = arrays()
    embed = make_embed()
    given = {"embed": embed, "param": embed.embedding, "array": embed.embedding[...]}[table]
    assert_identical(make_tied()(hidden, given), embed.attend(hidden))
    head = make_tied(use_bias=True, **LOGITS["everything"])
    logits = head(hidden, given)
    assert_same(logits, shaped(embed.attend(hidden) + head.bias[...], **LOGITS["everything"]))
    expected = standard_linear_cross_entropy(logits, np.eye(V), labels)
    assert_same(head.loss(hidden, labels, given), expected)


@pytest.mark.parametrize("dtype", [None, jnp.float32])
def test_tied_dtype(dtype):
    """That of the embedding as in attend, unless the head has one of its own."""
    hidden, labels = arrays("float32")
    embed = make_embed(dtype=jnp.bfloat16, param_dtype=jnp.float32)
    head = TiedLMHead(V, D, use_bias=True, dtype=dtype, rngs=nnx.Rngs(0))
    expected = embed.attend(hidden) if dtype is None else hidden @ embed.embedding[...].T
    assert_identical(head(hidden, embed), expected)
    narrow = [array.astype(dtype or jnp.bfloat16) for array in (hidden, embed.embedding[...])]
    assert_same(head.loss(hidden, labels, embed), linear_cross_entropy(*narrow, labels))


def test_tied_head_owns_only_a_bias():
    assert not jax.tree.leaves(nnx.state(TiedLMHead(V, D)))
    with pytest.raises(TypeError, match=r"^rngs: expected nnx\.Rngs for the bias"):
        TiedLMHead(V, D, use_bias=True)
    head = TiedLMHead(
        *(V, D),
        use_bias=True,
        param_dtype=jnp.bfloat16,
        rngs=nnx.Rngs(0),
        bias_metadata={"note": "sharded"},
    )
    plain = nnx.Linear(
        *(D, V),
        param_dtype=jnp.bfloat16,
        rngs=nnx.Rngs(0),
        bias_metadata={"note": "sharded"},
    )
    (bias,) = nnx.to_flat_state(nnx.state(head))
    assert bias[0] == ("bias",)
    assert_identical(head.bias, plain.bias)


def test_gradient_of_a_shared_table_is_the_sum_of_both_uses():
    embed, head = make_embed(V, D), make_tied(logit_softcap=1.5)
    tokens, labels = batch()

    @nnx.jit
    @nnx.grad
    def gradient(embed):
        return head.loss(jnp.tanh(embed(tokens)), labels, embed, **CHUNKS)

    def loss(table_in, table_out):
        hidden = jnp.tanh(table_in[tokens])
        return standard_linear_cross_entropy(hidden, table_out, labels, logit_softcap=1.5)

    table = embed.embedding[...]
    of_input, of_output = jax.jit(jax.grad(loss, (0, 1)))(table, table)
    assert jnp.abs(of_input).max() > 1e-3
    assert_same(gradient(embed)["embedding"][...], of_input + of_output)


def test_square_table_of_an_embed():
    """V equal to D is no riddle when the module says which axis is which."""
    hidden, labels = arrays()
    embed, head = make_embed(D, D), TiedLMHead(D, D)
    labels = labels % D
    expected = standard_linear_cross_entropy(hidden, embed.embedding[...], labels)
    assert_same(head.loss(hidden, labels, embed), expected)
    assert_identical(head(hidden, embed), embed.attend(hidden))
