"""NNX: a head or a call that cannot be right."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_impl.flax_nnx import TiedLMHead
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
from tests.jax_impl.flax_heads.nnx_models import (
    make_embed,
    make_head,
)
from tests.jax_impl.programs import equations


@pytest.mark.parametrize("tied", [False, True], ids=["LMHead", "TiedLMHead"])
@pytest.mark.parametrize(("change", "error", "message"), BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_calls(change, error, message, tied):
    hidden, labels = arrays()
    call = {"hidden": hidden, "labels": labels, **change}
    head = make_head()
    if tied:
        head, call["embedding"] = TiedLMHead(V, D), make_embed()
    with pytest.raises(error, match=message):
        head.loss(**call)


@pytest.mark.parametrize("name", ["hidden too wide", "hidden a scalar"])
def test_logits_of_bad_hidden(name):
    hidden = BAD_CALLS[name][0]["hidden"]
    for call in (lambda: make_head()(hidden), lambda: TiedLMHead(V, D)(hidden, make_embed())):
        with pytest.raises(ValueError, match=r"^hidden: expected shape \[\.\.\., D\] with D=8"):
            call()


@pytest.mark.parametrize(("options", "error", "message"), BAD_HEADS.values(), ids=BAD_HEADS)
def test_bad_heads(options, error, message):
    with pytest.raises(error, match=message):
        make_head(**options)
    with pytest.raises(error, match=message):
        TiedLMHead(V, D, **options)


@pytest.mark.parametrize(("sizes", "shape", "message"), BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_tables(sizes, shape, message):
    hidden, labels = arrays()
    head, table = TiedLMHead(*sizes), jnp.zeros(shape)
    labels = labels % sizes[0]
    for given in (table, nnx.Param(table), np.asarray(table)):
        with pytest.raises(ValueError, match=message):
            head.loss(hidden, labels, given)
        with pytest.raises(ValueError, match=message):
            head(hidden, given)


def test_embed_that_is_not_the_heads():
    hidden, labels = arrays()
    with pytest.raises(ValueError, match=r"^embedding: .*; exchange num_embeddings and features"):
        TiedLMHead(D, V).loss(hidden, labels % D, make_embed())
    for wrong in (make_head(), nn.Embed(V, D), "embed", None):
        with pytest.raises(TypeError, match=r"^embedding: expected an nnx\.Embed .* got \w+"):
            TiedLMHead(V, D).loss(hidden, labels, wrong)


def test_kernel_tied_by_assignment():
    """A table in the place of the kernel has the wrong layout."""
    hidden, labels = arrays()
    head = make_head()
    head.kernel = make_embed().embedding
    message = rf"^kernel: expected shape \[D, V\] with V={V}, got \[{V}, {D}\]; .* use TiedLMHead"
    with pytest.raises(ValueError, match=message):
        head.loss(hidden, labels)


def test_matmul_that_the_loss_cannot_do():
    def quantized(*operands, **options):
        return jax.lax.dot_general(*operands, **options)

    hidden, labels = arrays()
    head = make_head(dot_general=quantized)
    assert_identical(head(hidden), make_head()(hidden))
    with pytest.raises(ValueError, match=r"^dot_general: expected the default.*quantized"):
        head.loss(hidden, labels)


def test_precision_reaches_logits_and_loss():
    head, hidden = make_head(precision="highest"), arrays()[0]
    tied, embed = TiedLMHead(V, D, precision="highest"), make_embed()
    labels = jnp.zeros(TOKEN_SHAPE, jnp.int32)
    for function in (
        lambda hidden: head(hidden),
        lambda hidden: head.loss(hidden, labels),
        lambda hidden: tied(hidden, embed),
        lambda hidden: tied.loss(hidden, labels, embed),
    ):
        products = [e for e in equations(function, hidden) if e.primitive.name == "dot_general"]
        highest = jax.lax.Precision.HIGHEST
        assert products
        assert all(product.params["precision"] == (highest, highest) for product in products)
