"""A head or a call that cannot be right."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.jax_impl.flax_heads import linen_models, nnx_models
from tests.jax_impl.flax_heads.cases import (
    BAD_CALLS,
    BAD_HEADS,
    BAD_TABLES,
    TOKEN_SHAPE,
    D,
    V,
    arrays,
    assert_identical,
)
from tests.jax_impl.flax_heads.kinds import KINDS
from tests.jax_impl.programs import equations
from tests.tables import grid


@grid(kind=KINDS, tied={"LMHead": False, "TiedLMHead": True}, call=BAD_CALLS)
def test_bad_calls(kind, tied, call):
    change, error, message = call
    hidden, labels = arrays()
    inputs = {"hidden": hidden, "labels": labels, **change}
    if tied:
        inputs["embedding"] = kind.make_embed()
    head = kind.make_tied() if tied else kind.make_head()
    with pytest.raises(error, match=message):
        kind.loss(head, **inputs)


@grid(kind=KINDS, name=["hidden too wide", "hidden a scalar"])
def test_logits_of_bad_hidden(kind, name):
    (change, _, _), message = BAD_CALLS[name], r"^hidden: expected shape \[\.\.\., D\] with D=8"
    with pytest.raises(ValueError, match=message):
        kind.logits(kind.make_head(), change["hidden"])
    with pytest.raises(ValueError, match=message):
        kind.logits(kind.make_tied(), change["hidden"], kind.make_embed())


@grid(kind=KINDS, head=BAD_HEADS)
def test_bad_heads(kind, head):
    options, error, message = head
    with pytest.raises(error, match=message):
        kind.make_head(**options)
    with pytest.raises(error, match=message):
        kind.make_tied(**options)


@grid(kind=KINDS, case=BAD_TABLES)
def test_bad_tables(kind, case):
    sizes, shape, message = case
    hidden, labels = arrays()
    head, table = kind.make_tied(*sizes), jnp.zeros(shape)
    labels = labels % sizes[0]
    for given in (table, kind.boxed(table), np.asarray(table)):
        with pytest.raises(ValueError, match=message):
            kind.loss(head, hidden, labels, given)
        with pytest.raises(ValueError, match=message):
            kind.logits(head, hidden, given)


@grid(kind=KINDS)
def test_head_of_exchanged_sizes(kind):
    hidden, labels = arrays()
    with pytest.raises(ValueError, match=r"^embedding: .*; exchange num_embeddings and features"):
        kind.loss(kind.make_tied(D, V), hidden, labels % D, kind.make_embed())


NO_TABLES = {
    "head": lambda kind: kind.make_head(),
    "embed of the other kind": lambda kind: (
        linen_models if kind is nnx_models else nnx_models
    ).make_embed(),
    "dictionary": lambda kind: {"embedding": 1},
    "string": lambda kind: "embed",
    "none": lambda kind: None,
}


@grid(kind=KINDS, make=NO_TABLES)
def test_no_table_at_all(kind, make):
    message = rf"^embedding: expected an {kind.LIBRARY}\.Embed .* got \w+"
    with pytest.raises(TypeError, match=message):
        kind.loss(kind.make_tied(), *arrays(), make(kind))


@grid(kind=KINDS)
def test_table_in_the_place_of_the_kernel(kind):
    """It has the wrong layout."""
    table = kind.parameters(kind.make_embed())["embedding"]
    head = kind.with_values(kind.make_head(), kernel=table, bias=jnp.zeros(V))
    message = rf"^kernel: expected shape \[D, V\] with V={V}, got \[{V}, {D}\]; .* use TiedLMHead"
    with pytest.raises(ValueError, match=message):
        kind.loss(head, *arrays())


def quantized(*operands, **options):
    return jax.lax.dot_general(*operands, **options)


MATMULS = {
    "nnx-dot_general": (nnx_models, "dot_general", quantized),
    "linen-dot_general": (linen_models, "dot_general", quantized),
    "linen-dot_general_cls": (linen_models, "dot_general_cls", lambda: quantized),
}


@pytest.mark.parametrize(("kind", "name", "value"), MATMULS.values(), ids=MATMULS)
def test_matmul_that_the_loss_cannot_do(kind, name, value):
    hidden, labels = arrays()
    head = kind.make_head(**{name: value})
    assert_identical(kind.logits(head, hidden), kind.logits(kind.make_head(), hidden))
    with pytest.raises(ValueError, match=rf"^{name}: expected the default.*got <function"):
        kind.loss(head, hidden, labels)


@grid(kind=KINDS)
def test_matmul_of_jax_itself(kind):
    """May be asked for by name."""
    named, default = kind.make_head(dot_general=jax.lax.dot_general), kind.make_head()
    assert_identical(kind.loss(named, *arrays()), kind.loss(default, *arrays()))


@grid(kind=KINDS)
def test_precision_reaches_logits_and_loss(kind):
    hidden, labels = arrays()[0], jnp.zeros(TOKEN_SHAPE, jnp.int32)
    head, tied = kind.make_head(precision="highest"), kind.make_tied(precision="highest")
    embed = kind.make_embed()
    for function in (
        lambda hidden: kind.logits(head, hidden),
        lambda hidden: kind.loss(head, hidden, labels),
        lambda hidden: kind.logits(tied, hidden, embed),
        lambda hidden: kind.loss(tied, hidden, labels, embed),
    ):
        products = [e for e in equations(function, hidden) if e.primitive.name == "dot_general"]
        highest = jax.lax.Precision.HIGHEST
        assert products
        assert all(product.params["precision"] == (highest, highest) for product in products)
