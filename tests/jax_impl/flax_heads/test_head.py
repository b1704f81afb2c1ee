"""Parameters and logits of the plain head, and the loss of its logits."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from tests.jax_impl.flax_heads.cases import (
    BIAS,
    CASES,
    LOGITS,
    V,
    arrays,
    assert_identical,
    batch,
    table,
)
from tests.jax_impl.flax_heads.expected import expected_of, shaped, with_gradients
from tests.jax_impl.flax_heads.kinds import KINDS
from tests.jax_impl.programs import largest_buffer, temporary_bytes
from tests.jax_impl.rounding import assert_same
from tests.tables import grid, optimized


def test_flax_is_imported_only_where_it_is_wanted(pytestconfig):
    program = "import sys, jax_impl; sys.exit('flax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=pytestconfig.rootpath, check=True)


HEADS = {
    "defaults": lambda kind: {},
    "no bias": lambda kind: {"use_bias": False, "param_dtype": jnp.bfloat16},
    "initialisers": lambda kind: {
        "dtype": jnp.bfloat16,
        "bias_init": jax.nn.initializers.normal(1.0),
        **kind.with_metadata("kernel", jax.nn.initializers.normal(0.02)),
    },
}


@grid(kind=KINDS, make_options=HEADS)
def test_parameters_and_logits_of_the_plain_head(kind, make_options):
    options = make_options(kind)
    dtype = options.get("dtype") or options.get("param_dtype", jnp.float32)
    hidden, labels = arrays("float32")
    hidden = hidden.astype(dtype)
    plain, head = kind.new(kind.PlainHead, **options), kind.new(kind.LMHead, **options)
    assert_identical(kind.state(head), kind.state(plain))  # names and metadata too
    assert_identical(kind.logits(head, hidden), kind.logits(plain, hidden))

    # Boxed or not, the loss finds them.
    values = jax.tree.map(lambda array: array.astype(dtype), kind.parameters(head))
    expected, _ = expected_of(hidden, values["kernel"], labels, values.get("bias"), vocab_axis=1)
    assert_same(kind.loss(head, hidden, labels), expected.astype(np.float32))


@grid(kind=KINDS, saved=["plain", "ours"])
def test_checkpoint_of_the_other_head_loads(kind, saved, tmp_path):
    source, target = kind.make_model(kind.PlainHead), kind.make_model(kind.LMHead)
    if saved == "ours":
        source, target = target, source
    zeros = jax.tree.map(jnp.zeros_like, kind.state(target))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "model", kind.state(source))
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "model", zeros)
    assert_identical(restored, kind.state(source))
    tokens, _ = batch()
    logits = kind.logits(kind.with_state(target, restored), tokens)
    assert_identical(logits, kind.logits(source, tokens))


@grid(kind=KINDS, case=CASES)
def test_loss_and_gradients(kind, case, compile_once):
    logit_options, loss_options = case
    head = kind.make_head(**logit_options)
    hidden, labels = arrays(ignored=loss_options.get("ignore_index", -100))

    def loss(hidden, kernel, bias):
        ours = kind.with_values(head, kernel=kernel, bias=bias)
        return kind.loss(ours, hidden, labels, **loss_options)

    inputs = hidden, table().T, jnp.asarray(BIAS)
    step = compile_once(with_gradients(loss, 3), *inputs)
    expected = expected_of(
        *inputs[:2], labels, inputs[2], vocab_axis=1, **logit_options, **loss_options
    )
    assert_same(step(*inputs), expected)


@grid(kind=KINDS, logit_options=LOGITS)
def test_loss_is_that_of_the_logits(kind, logit_options):
    head = kind.make_head(**logit_options)
    hidden, labels = arrays()
    logits, values = kind.logits(head, hidden), kind.parameters(head)
    assert_same(logits, shaped(hidden @ values["kernel"] + values["bias"], **logit_options))
    expected, _ = expected_of(logits, np.eye(V), labels, vocab_axis=0)
    assert_same(kind.loss(head, hidden, labels), expected)


@grid(kind=KINDS)
def test_computes_in_dtype(kind, compile_once):
    """bfloat16 products of float32 parameters: gradients have the dtype of the parameters."""
    head = kind.make_head(dtype=jnp.bfloat16, param_dtype=jnp.float32, logit_softcap=1.5)
    hidden, labels = arrays("float32")

    def loss(hidden, kernel, bias):
        ours = kind.with_values(head, kernel=kernel, bias=bias)
        return kind.loss(ours, hidden, labels)

    inputs = hidden, table("float32").T, jnp.asarray(BIAS, jnp.float32)
    result, gradients = compile_once(with_gradients(loss, 3), *inputs)(*inputs)
    hidden_16, kernel_16, bias_16 = as_bfloat16(inputs)
    expected, expected_gradients = expected_of(
        hidden_16, kernel_16, labels, bias_16, vocab_axis=1, logit_softcap=1.5
    )
    assert_same(result, expected.astype(np.float32))
    assert all(gradient.dtype == jnp.float32 for gradient in gradients)
    assert_same(as_bfloat16(gradients), as_bfloat16(expected_gradients))

    values = kind.parameters(head)
    plain = kind.with_values(kind.new(kind.PlainHead, dtype=jnp.bfloat16), **values)
    product = kind.logits(plain, hidden).astype(jnp.float32)
    capped = shaped(product, logit_softcap=1.5).astype(jnp.bfloat16)
    assert_identical(kind.logits(head, hidden), capped)


def as_bfloat16(arrays):
    return tuple(array.astype(jnp.bfloat16) for array in arrays)


@grid(kind=KINDS)
def test_promotes_with_its_own_function(kind):
    head = kind.make_head(promote_dtype=kind.promote_to_float32)
    loss = jax.eval_shape(lambda hidden, labels: kind.loss(head, hidden, labels), *arrays())
    assert loss.dtype == jnp.float32


NUM_TOKENS, FEATURES, CLASSES = 256, 16, 4096


@pytest.fixture(scope="module")
def compile_step(compile_once):
    """Loss and gradients of hidden and of weights of these shapes."""

    def compile_for(loss, *weights):
        hidden = jax.ShapeDtypeStruct((NUM_TOKENS, FEATURES), jnp.float32)
        labels = jax.ShapeDtypeStruct((NUM_TOKENS,), jnp.int32)
        arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in weights]
        step = jax.value_and_grad(loss, tuple(range(len(weights) + 1)))
        return compile_once(step, *arrays, hidden, labels)

    return compile_for


@optimized
@grid(kind=KINDS, tied={"LMHead": False, "TiedLMHead": True})
def test_no_full_logits(kind, tied, compile_step):
    """In the compiled step; they would be 16 times as large as any input."""
    chunks = {"vocab_chunk": 256, "token_chunk": 64, "strategy": "two_pass"}
    if tied:
        head = kind.make_tied(CLASSES, FEATURES)
        embed = kind.make_embed(CLASSES, FEATURES, param_dtype=jnp.float32)
        step = compile_step(
            lambda table, hidden, labels: kind.loss(
                head, hidden, labels, kind.with_values(embed, embedding=table), **chunks
            ),
            (CLASSES, FEATURES),
        )
    else:
        head = kind.new(kind.LMHead, CLASSES, FEATURES)
        step = compile_step(
            lambda kernel, bias, hidden, labels: kind.loss(
                kind.with_values(head, kernel=kernel, bias=bias), hidden, labels, **chunks
            ),
            (FEATURES, CLASSES),
            (CLASSES,),
        )
    with_logits = compile_step(
        lambda kernel, hidden, labels: jnp.mean(
            optax.softmax_cross_entropy_with_integer_labels(hidden @ kernel, labels)
        ),
        (FEATURES, CLASSES),
    )
    assert largest_buffer(with_logits) >= NUM_TOKENS * CLASSES  # it would have been seen
    assert largest_buffer(step) < NUM_TOKENS * CLASSES
    assert temporary_bytes(step) < temporary_bytes(with_logits) / 10
