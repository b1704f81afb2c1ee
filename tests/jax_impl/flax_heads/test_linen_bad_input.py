"""Linen: a head or a call that cannot be right."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.errors import CallCompactUnboundModuleError

from jax_impl.flax_linen import LMHead, TiedLMHead
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
from tests.jax_impl.flax_heads.linen_models import (
    make_embed,
    make_head,
)
from tests.jax_impl.programs import equations


@pytest.mark.parametrize("tied", [False, True], ids=["LMHead", "TiedLMHead"])
@pytest.mark.parametrize(("change", "error", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls(change, error, message, tied):
    hidden, labels = arrays()
    call = {"hidden": hidden, "labels": labels, **change}
    if tied:
        head, call["embedding"] = TiedLMHead(V, D).bind({}), make_embed()
    else:
        head, variables = make_head()
        head = head.bind(variables)
    with pytest.raises(error, match=message):
        head.loss(**call)


@pytest.mark.parametrize("name", ["hidden too wide", "hidden a scalar"])
def test_logits_of_bad_hidden(name):
    hidden = BAD_CALLS[name][0]["hidden"]
    head, variables = make_head()
    for call in (
        lambda: head.apply(variables, hidden),
        lambda: TiedLMHead(V, D).apply({}, hidden, make_embed()),
    ):
        with pytest.raises(ValueError, match=r"^hidden: expected shape \[\.\.\., D\] with D=8"):
            call()


@pytest.mark.parametrize(("options", "error", "message"), BAD_HEADS.values(), ids=BAD_HEADS)
def test_bad_heads(options, error, message):
    with pytest.raises(error, match=message):
        LMHead(V, **options)
    with pytest.raises(error, match=message):
        TiedLMHead(V, D, **options)


@pytest.mark.parametrize(("sizes", "shape", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_tables(sizes, shape, message):
    hidden, labels = arrays()
    head, table = TiedLMHead(*sizes), jnp.zeros(shape)
    labels = labels % sizes[0]
    for given in (table, nn.Partitioned(table, (None, None)), np.asarray(table)):
        with pytest.raises(ValueError, match=message):
            head.apply({}, hidden, labels, given, method="loss")
        with pytest.raises(ValueError, match=message):
            head.apply({}, hidden, given)


def test_embed_that_is_not_the_heads():
    hidden, labels = arrays()
    swapped = TiedLMHead(D, V).bind({})
    with pytest.raises(ValueError, match=r"^embedding: .*; exchange num_embeddings and features"):
        swapped.loss(hidden, labels % D, make_embed())
    head = TiedLMHead(V, D).bind({})
    with pytest.raises(ValueError, match=r"^embedding: expected a bound nn\.Embed.* its table"):
        head.loss(hidden, labels, nn.Embed(V, D))
    for wrong in (nn.Dense(V), nnx.Embed(V, D, rngs=nnx.Rngs(0)), {"embedding": 1}, "embed", None):
        with pytest.raises(TypeError, match=r"^embedding: expected an nn\.Embed .* got \w+"):
            head.loss(hidden, labels, wrong)


def test_table_in_the_place_of_the_kernel():
    hidden, labels = arrays()
    variables = {"params": {"kernel": make_embed().embedding, "bias": jnp.zeros(V)}}
    message = rf"^kernel: expected shape \[D, V\] with V={V}, got \[{V}, {D}\]; .* use TiedLMHead"
    with pytest.raises(ValueError, match=message):
        make_head()[0].apply(variables, hidden, labels, method="loss")


@pytest.mark.parametrize("name", ["dot_general", "dot_general_cls"])
def test_matmul_that_the_loss_cannot_do(name):
    def quantized(*operands, **options):
        return jax.lax.dot_general(*operands, **options)

    hidden, labels = arrays()
    head, variables = make_head(**{name: (lambda: quantized) if "cls" in name else quantized})
    assert_identical(head.apply(variables, hidden), make_head()[0].apply(variables, hidden))
    with pytest.raises(ValueError, match=rf"^{name}: expected the default.*got <function"):
        head.apply(variables, hidden, labels, method="loss")
    same, variables = make_head(dot_general=jax.lax.dot_general)
    same.apply(variables, hidden, labels, method="loss")


def test_unbound_head():
    """Linen's own error, which says to use apply."""
    hidden, labels = arrays()
    with pytest.raises(CallCompactUnboundModuleError):
        LMHead(V)(hidden)
    with pytest.raises(CallCompactUnboundModuleError):
        LMHead(V).loss(hidden, labels)


def test_precision_reaches_logits_and_loss():
    hidden, labels = arrays()[0], jnp.zeros(TOKEN_SHAPE, jnp.int32)
    head, variables = make_head(precision="highest")
    tied, table = TiedLMHead(V, D, precision="highest"), make_embed().embedding
    for function in (
        lambda hidden: head.apply(variables, hidden),
        lambda hidden: head.apply(variables, hidden, labels, method="loss"),
        lambda hidden: tied.apply({}, hidden, table),
        lambda hidden: tied.apply({}, hidden, labels, table, method="loss"),
    ):
        products = [e for e in equations(function, hidden) if e.primitive.name == "dot_general"]
        highest = jax.lax.Precision.HIGHEST
        assert products
        assert all(product.params["precision"] == (highest, highest) for product in products)
