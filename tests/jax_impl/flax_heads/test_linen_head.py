"""Linen: parameters and logits of the plain head, and the loss of its logits."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from jax_impl import linear_cross_entropy, standard_linear_cross_entropy
from jax_impl.flax_linen import LMHead, TiedLMHead
from tests.jax_impl.flax_heads.cases import (
    CASES,
    CHUNKS,
    LOGITS,
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
    CompactModel,
    Model,
    make_head,
)
from tests.jax_impl.programs import equations, largest_buffer, temporary_bytes
from tests.jax_impl.rounding import assert_same


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_bias": False, "param_dtype": jnp.bfloat16},
        {
            "dtype": jnp.bfloat16,
            "kernel_init": nn.with_partitioning(nn.initializers.normal(), ("embed", "vocab")),
            "bias_init": nn.initializers.normal(1.0),
        },
    ],
    ids=["defaults", "no bias", "initialisers"],
)
def test_parameters_and_logits_of_dense(options):
    """Whichever method creates them."""
    dtype = options.get("dtype") or options.get("param_dtype", jnp.float32)
    hidden, labels = arrays("float32")
    hidden = hidden.astype(dtype)
    plain, head = nn.Dense(V, **options), LMHead(V, **options)
    variables = plain.init(KEY, hidden)
    assert_identical(head.init(KEY, hidden), variables)
    assert_identical(head.init(KEY, hidden, labels, method="loss"), variables)
    assert_identical(head.apply(variables, hidden), plain.apply(variables, hidden))
    # Boxed or not, the loss finds them.
    unboxed = nn.unbox(variables)["params"]
    kernel, bias = unboxed["kernel"].astype(dtype), unboxed.get("bias")
    bias = None if bias is None else bias.astype(dtype)
    expected = linear_cross_entropy(hidden, kernel, labels, bias=bias, vocab_axis=1)
    assert_same(head.apply(variables, hidden, labels, method="loss"), expected)


def test_initialising_with_the_loss_forms_no_logits():
    hidden, labels = jnp.zeros((256, 16), jnp.float32), jnp.zeros(256, jnp.int32)
    head, chunks = LMHead(4096), {"vocab_chunk": 256, "token_chunk": 64}

    def largest(init):
        return max(out.aval.size for e in equations(init, KEY) for out in e.outvars)

    assert largest(lambda key: head.init(key, hidden)) >= 256 * 4096  # it would have been seen
    assert largest(lambda key: head.init(key, hidden, labels, method="loss", **chunks)) < 256 * 4096


@pytest.mark.parametrize(("saved", "loaded"), [(nn.Dense, LMHead), (LMHead, nn.Dense)])
def test_checkpoint_of_the_other_head_loads(saved, loaded, tmp_path):
    tokens, _ = batch()
    source, target = Model(saved), Model(loaded)
    variables = jax.tree.map(lambda array: array + 1, source.init(KEY, tokens))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "model", variables)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "model", target.init(KEY, tokens))
    assert_identical(restored, variables)
    assert_identical(target.apply(restored, tokens), source.apply(variables, tokens))


def test_compact_model_keeps_the_name_of_dense():
    tokens, labels = batch()
    variables = CompactModel(nn.Dense).init(KEY, tokens)
    ours = CompactModel(LMHead, name_of_head="Dense_1")
    assert_identical(ours.init(KEY, tokens, labels), variables)
    logits = ours.apply(variables, tokens)
    assert_identical(logits, CompactModel(nn.Dense).apply(variables, tokens))
    expected = standard_linear_cross_entropy(logits, np.eye(V), labels)
    assert_same(ours.apply(variables, tokens, labels), expected)


@pytest.mark.parametrize(("logit_options", "loss_options"), CASES.values(), ids=CASES)
def test_loss_and_gradients(logit_options, loss_options):
    head, variables = make_head(**logit_options)
    hidden, labels = arrays(ignored=loss_options.get("ignore_index", -100))

    def loss(hidden, kernel, bias):
        variables = {"params": {"kernel": kernel, "bias": bias}}
        return head.apply(variables, hidden, labels, method="loss", **loss_options)

    inputs = hidden, variables["params"]["kernel"], variables["params"]["bias"]
    expected = standard(labels, 1, **logit_options, **loss_options)
    assert_same(value_and_gradients(loss, *inputs), value_and_gradients(expected, *inputs))


@pytest.mark.parametrize("logit_options", LOGITS.values(), ids=LOGITS)
def test_loss_is_that_of_the_logits(logit_options):
    """Also where one call of a model has both."""
    hidden, labels = arrays()
    head, variables = make_head(**logit_options)
    params = variables["params"]

    def both(head, hidden, labels):
        return head(hidden), head.loss(hidden, labels), head(hidden)

    logits, loss, again = head.apply(variables, hidden, labels, method=both)
    assert_same(logits, shaped(hidden @ params["kernel"] + params["bias"], **logit_options))
    assert_same(loss, standard_linear_cross_entropy(logits, np.eye(V), labels))
    assert_identical(again, logits)


def test_computes_in_dtype():
    """bfloat16 products of float32 parameters: gradients have the dtype of the parameters."""
    hidden, labels = arrays("float32")
    head = LMHead(V, dtype=jnp.bfloat16, bias_init=nn.initializers.normal(1.0), logit_softcap=1.5)
    params = head.init(KEY, hidden)["params"]

    def loss_of(params):
        return head.apply({"params": params}, hidden, labels, method="loss", **CHUNKS)

    loss, gradients = jax.value_and_grad(loss_of)(params)
    narrow = jax.tree.map(lambda array: array.astype(jnp.bfloat16), params)

    def expected_loss(params):
        options = {"bias": params["bias"], "vocab_axis": 1, "logit_softcap": 1.5, **CHUNKS}
        return linear_cross_entropy(
            hidden.astype(jnp.bfloat16), params["kernel"], labels, **options
        )

    expected, expected_gradients = jax.value_and_grad(expected_loss)(narrow)
    assert loss.dtype == jnp.float32
    assert_same(loss, expected)
    assert all(array.dtype == jnp.float32 for array in jax.tree.leaves(gradients))
    narrowed = jax.tree.map(lambda array: array.astype(jnp.bfloat16), gradients)
    assert_same(narrowed, expected_gradients)

    logits = head.apply({"params": params}, hidden)
    plain = nn.Dense(V, dtype=jnp.bfloat16).apply({"params": params}, hidden)
    capped = shaped(plain.astype(jnp.float32), logit_softcap=1.5)
    assert_identical(logits, capped.astype(jnp.bfloat16))


def test_promotes_with_its_own_function():
    def promote(*arrays, dtype):
        return [array.astype(jnp.float32) for array in arrays]

    head, variables = make_head(promote_dtype=promote)
    assert head.apply(variables, *arrays(), method="loss").dtype == jnp.float32


def test_no_full_logits():
    """In the compiled step; they would be 16 times as large as any input."""
    num_tokens, features, vocab_size = 256, 16, 4096
    chunks = {"vocab_chunk": 256, "token_chunk": 64, "strategy": "two_pass"}
    hidden = jax.ShapeDtypeStruct((num_tokens, features), jnp.float32)
    labels = jax.ShapeDtypeStruct((num_tokens,), jnp.int32)
    head, tied = LMHead(vocab_size), TiedLMHead(vocab_size, features)
    variables = jax.eval_shape(head.init, KEY, hidden)
    table = jax.ShapeDtypeStruct((vocab_size, features), jnp.float32)

    def compile_step(loss, weights):
        step = jax.jit(jax.value_and_grad(loss, (0, 1)))
        return step.lower(weights, hidden, labels).compile()

    def loss(variables, hidden, labels):
        return head.apply(variables, hidden, labels, method="loss", **chunks)

    def tied_loss(table, hidden, labels):
        return tied.apply({}, hidden, labels, table, method="loss", **chunks)

    def logits_loss(variables, hidden, labels):
        logits = head.apply(variables, hidden)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    plain = compile_step(logits_loss, variables)
    assert largest_buffer(plain) >= num_tokens * vocab_size  # it would have been seen
    for step in (compile_step(loss, variables), compile_step(tied_loss, table)):
        assert largest_buffer(step) < num_tokens * vocab_size
        assert temporary_bytes(step) < temporary_bytes(plain) / 10
