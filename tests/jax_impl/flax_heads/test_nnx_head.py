"""NNX: parameters and logits of the plain head, and the loss of its logits."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from jax_impl import linear_cross_entropy, standard_linear_cross_entropy
from jax_impl.flax_nnx import LMHead, TiedLMHead
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
    Model,
    make_head,
    with_values,
)
from tests.jax_impl.programs import largest_buffer, temporary_bytes
from tests.jax_impl.rounding import assert_same


def test_flax_is_imported_only_where_it_is_wanted(pytestconfig):
    program = "import sys, jax_impl; sys.exit('flax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=pytestconfig.rootpath, check=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_bias": False, "param_dtype": jnp.bfloat16},
        {
            "dtype": jnp.bfloat16,
            "kernel_init": nnx.initializers.normal(0.02),
            "bias_init": nnx.initializers.normal(1.0),
            "kernel_metadata": {"note": "sharded"},
        },
    ],
    ids=["defaults", "no bias", "initialisers"],
)
def test_parameters_and_logits_of_linear(options):
    plain = nnx.Linear(D, V, rngs=nnx.Rngs(0), **options)
    head = LMHead(D, V, rngs=nnx.Rngs(0), **options)
    assert_identical(nnx.state(head), nnx.state(plain))  # names and metadata too

    hidden = arrays("float32")[0].astype(
        options.get("dtype") or options.get("param_dtype", "float32")
    )
    assert_identical(head(hidden), plain(hidden))


@pytest.mark.parametrize(("saved", "loaded"), [(nnx.Linear, LMHead), (LMHead, nnx.Linear)])
def test_checkpoint_of_the_other_head_loads(saved, loaded, tmp_path):
    source, target = Model(saved), Model(loaded)
    source.head.bias[...] += 1.0  # unlike anything that a constructor makes
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "model", nnx.state(source))
        checkpointer.wait_until_finished()
        nnx.update(target, checkpointer.restore(tmp_path / "model", nnx.state(target)))
    tokens, _ = batch()
    assert_identical(target(tokens), source(tokens))


@pytest.mark.parametrize(("logit_options", "loss_options"), CASES.values(), ids=CASES)
def test_loss_and_gradients(logit_options, loss_options):
    head = make_head(**logit_options)
    hidden, labels = arrays(ignored=loss_options.get("ignore_index", -100))

    def loss(hidden, kernel, bias):
        ours = with_values(head, kernel=kernel, bias=bias)
        return ours.loss(hidden, labels, **loss_options)

    inputs = hidden, head.kernel[...], head.bias[...]
    expected = standard(labels, 1, **logit_options, **loss_options)
    assert_same(value_and_gradients(loss, *inputs), value_and_gradients(expected, *inputs))


@pytest.mark.parametrize("logit_options", LOGITS.values(), ids=LOGITS)
def test_loss_is_that_of_the_logits(logit_options):
    head = make_head(**logit_options)
    hidden, labels = arrays()
    logits = head(hidden)
    product = hidden @ head.kernel[...] + head.bias[...]
    assert_same(logits, shaped(product, **logit_options))
    assert_same(head.loss(hidden, labels), standard_linear_cross_entropy(logits, np.eye(V), labels))


def test_no_bias():
    head = make_head(use_bias=False)
    hidden, labels = arrays()
    expected = standard_linear_cross_entropy(hidden, head.kernel[...], labels, vocab_axis=1)
    assert_same(head.loss(hidden, labels, **CHUNKS), expected)


def test_computes_in_dtype():
    """bfloat16 products of float32 parameters: gradients have the dtype of the parameters."""
    options = {"dtype": jnp.bfloat16, "param_dtype": jnp.float32, "logit_softcap": 1.5}
    head = make_head(**options)
    hidden, labels = arrays("float32")
    loss, gradients = nnx.value_and_grad(lambda head: head.loss(hidden, labels, **CHUNKS))(head)
    narrow = [array.astype(jnp.bfloat16) for array in (hidden, head.kernel[...], head.bias[...])]

    def expected_loss(hidden, kernel, bias):
        options = {"bias": bias, "vocab_axis": 1, "logit_softcap": 1.5, **CHUNKS}
        return linear_cross_entropy(hidden, kernel, labels, **options)

    expected, expected_gradients = jax.value_and_grad(expected_loss, (1, 2))(*narrow)
    assert loss.dtype == jnp.float32
    assert_same(loss, expected)
    for name, narrow_gradient in zip(("kernel", "bias"), expected_gradients, strict=True):
        assert gradients[name].dtype == jnp.float32
        assert_same(gradients[name][...].astype(jnp.bfloat16), narrow_gradient)

    logits = head(hidden)
    assert logits.dtype == jnp.bfloat16
    product = nnx.Linear.__call__(head, hidden).astype(jnp.float32)
    assert_identical(logits, shaped(product, logit_softcap=1.5).astype(jnp.bfloat16))


def test_promotes_with_its_own_function():
    def promote(arrays, dtype):
        return tuple(array.astype(jnp.float32) for array in arrays)

    head = make_head(promote_dtype=promote)
    assert head.loss(*arrays()).dtype == jnp.float32


def test_wider_logits_are_those_of_the_loss():
    """The loss's own logits are float32 in bfloat16, but not float64."""
    hidden, labels = arrays("bfloat16")
    options = {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16}
    head = make_head(**options, use_bias=False, preferred_element_type=jnp.float32)
    assert head(hidden).dtype == jnp.float32
    assert_same(
        head.loss(hidden, labels), make_head(**options, use_bias=False).loss(hidden, labels)
    )
    head = make_head(**options, preferred_element_type=jnp.float64)
    with pytest.raises(ValueError, match=r"^preferred_element_type: expected the default"):
        head.loss(hidden, labels)


MANY = {"num_tokens": 256, "features": 16, "vocab_size": 4096}


def test_no_full_logits():
    """In the compiled step; they would be 16 times as large as any input."""
    num_tokens, features, vocab_size = MANY.values()
    chunks = {"vocab_chunk": 256, "token_chunk": 64, "strategy": "two_pass"}
    head = nnx.eval_shape(lambda: LMHead(features, vocab_size, rngs=nnx.Rngs(0)))
    embed = nnx.eval_shape(lambda: nnx.Embed(vocab_size, features, rngs=nnx.Rngs(0)))
    hidden = jax.ShapeDtypeStruct((num_tokens, features), jnp.float32)
    labels = jax.ShapeDtypeStruct((num_tokens,), jnp.int32)

    def compile_step(module, loss):
        graph, state = nnx.split(module)
        step = jax.value_and_grad(
            lambda state, *inputs: loss(nnx.merge(graph, state), *inputs), (0, 1)
        )
        return jax.jit(step).lower(state, hidden, labels).compile()

    def tied_loss(embed, hidden, labels):
        return TiedLMHead(vocab_size, features).loss(hidden, labels, embed, **chunks)

    def logits_loss(head, hidden, labels):
        return optax.softmax_cross_entropy_with_integer_labels(head(hidden), labels).mean()

    steps = [
        compile_step(head, lambda head, *inputs: head.loss(*inputs, **chunks)),
        compile_step(embed, tied_loss),
    ]
    plain = compile_step(head, logits_loss)
    assert largest_buffer(plain) >= num_tokens * vocab_size  # it would have been seen
    for step in steps:
        assert largest_buffer(step) < num_tokens * vocab_size
        assert temporary_bytes(step) < temporary_bytes(plain) / 10
