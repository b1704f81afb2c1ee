"""The head that borrows an embedding."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from tests.jax_impl.flax_heads.cases import (
    BIAS,
    CASES,
    LOGITS,
    D,
    V,
    arrays,
    assert_identical,
    batch,
    table,
    tied_values,
)
from tests.jax_impl.flax_heads.expected import (
    expected_of,
    shaped,
    tied_step,
    with_gradients,
)
from tests.jax_impl.flax_heads.kinds import KINDS
from tests.jax_impl.rounding import assert_same
from tests.tables import grid


@grid(kind=KINDS, case=CASES)
def test_tied_loss_and_gradients(kind, case, compile_once):
    logit_options, loss_options = case
    use_bias = bool(logit_options)
    embed, head = kind.make_embed(), kind.make_tied(use_bias=use_bias, **logit_options)
    hidden, labels = arrays(ignored=loss_options.get("ignore_index", -100))

    def loss(hidden, table, *bias):
        ours = kind.with_values(head, bias=bias[0]) if bias else head
        tied = kind.with_values(embed, embedding=table)
        return kind.loss(ours, hidden, labels, tied, **loss_options)

    inputs = hidden, table(), *([jnp.asarray(BIAS)] if use_bias else [])
    step = compile_once(with_gradients(loss, len(inputs)), *inputs)
    expected = expected_of(
        *inputs[:2], labels, *inputs[2:], vocab_axis=0, **logit_options, **loss_options
    )
    assert_same(step(*inputs), expected)


GIVEN = {
    "embed": lambda kind, embed: embed,
    "array": lambda kind, embed: kind.parameters(embed)["embedding"],
    "boxed": lambda kind, embed: kind.boxed(kind.parameters(embed)["embedding"]),
}


@grid(kind=KINDS, give=GIVEN)
def test_tied_logits_are_those_of_attend(kind, give):
    hidden, labels = arrays()
    embed = kind.make_embed()
    given, product, logit_options = give(kind, embed), embed.attend(hidden), LOGITS["everything"]
    assert_identical(kind.logits(kind.make_tied(), hidden, given), product)

    head = kind.with_values(kind.make_tied(use_bias=True, **logit_options), bias=jnp.asarray(BIAS))
    logits = kind.logits(head, hidden, given)
    assert_same(logits, shaped(product + BIAS, **logit_options))
    expected, _ = expected_of(logits, np.eye(V), labels, vocab_axis=0)
    assert_same(kind.loss(head, hidden, labels, given), expected)


@grid(kind=KINDS, dtype={"of the embed": None, "of the head": jnp.float32})
def test_tied_dtype(kind, dtype):
    """That of the embedding as in attend, unless the head has one of its own."""
    hidden, labels = arrays("float32")
    embed = kind.make_embed(dtype=jnp.bfloat16, param_dtype=jnp.float32)
    head = kind.make_tied(use_bias=True, dtype=dtype)
    weight = kind.parameters(embed)["embedding"]
    product = embed.attend(hidden) if dtype is None else hidden @ weight.T
    assert_identical(kind.logits(head, hidden, embed), product)
    narrow = [array.astype(dtype or jnp.bfloat16) for array in (hidden, weight)]
    expected, _ = expected_of(*narrow, labels, vocab_axis=0)
    assert_same(kind.loss(head, hidden, labels, embed), expected.astype(np.float32))


BIASES = {
    "defaults": lambda kind: {},
    "initialiser": lambda kind: {
        "param_dtype": jnp.bfloat16,
        **kind.with_metadata("bias", jax.nn.initializers.ones),
    },
}


@grid(kind=KINDS, make_options=BIASES)
def test_tied_head_owns_only_a_bias(kind, make_options):
    """As the plain head has it: name, values, dtype and metadata."""
    assert not jax.tree.leaves(kind.state(kind.make_tied()))
    options = make_options(kind)
    head, plain = kind.make_tied(use_bias=True, **options), kind.new(kind.PlainHead, **options)
    assert [*kind.parameters(head)] == ["bias"]
    assert_identical(kind.bias_of(head), kind.bias_of(plain))


@grid(kind=KINDS)
def test_gradient_of_a_shared_table_is_the_sum_of_both_uses(kind):
    tokens, labels = (array % D for array in batch())
    model, values = kind.make_tied_model(), tied_values()
    expected, of_input, of_output = tied_step(values, tokens, labels, logit_softcap=1.5)
    assert np.abs(of_input).max() > 1e-3
    value, gradients = kind.value_and_grad(model, tokens, labels)
    assert_same(value, expected)
    assert_same(gradients, {"embed": {"embedding": of_input + of_output}})


@grid(kind=KINDS)
def test_square_table_of_an_embed(kind):
    """V equal to D is no riddle when the module says which axis is which."""
    hidden, labels = arrays()
    embed, head, labels = kind.make_embed(D, D), kind.make_tied(D, D), labels % D
    expected, _ = expected_of(hidden, kind.parameters(embed)["embedding"], labels, vocab_axis=0)
    assert_same(kind.loss(head, hidden, labels, embed), expected)
    assert_identical(kind.logits(head, hidden, embed), embed.attend(hidden))
