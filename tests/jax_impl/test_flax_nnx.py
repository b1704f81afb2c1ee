"""The NNX heads: parameters and logits of the plain head, and the loss of its logits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from jax_impl import linear_cross_entropy, standard_linear_cross_entropy
from jax_impl.flax_nnx import LMHead, TiedLMHead
from tests.jax_impl.flax_cases import (
    BAD_CALLS,
    BAD_HEADS,
    BAD_TABLES,
    CASES,
    CHUNKS,
    LOGITS,
    TOKEN_SHAPE,
    D,
    V,
    arrays,
    shaped,
    standard,
    value_and_gradients,
)
from tests.jax_impl.programs import equations, largest_buffer, temporary_bytes
from tests.jax_impl.rounding import assert_same

WIDE = {"dtype": jnp.float64, "param_dtype": jnp.float64}


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture
def standard_promotion() -> Iterator[None]:
    """Optax adds integers to floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def make_head(**options: Any) -> LMHead:
    """With a bias that is not 0."""
    options = WIDE | {"bias_init": nnx.initializers.normal(1.0)} | options
    return LMHead(D, V, rngs=nnx.Rngs(0), **options)


def make_embed(vocab_size: int = V, features: int = D, **options: Any) -> nnx.Embed:
    return nnx.Embed(
        vocab_size, features, rngs=nnx.Rngs(3), **{"param_dtype": jnp.float64, **options}
    )


def make_tied(**options: Any) -> TiedLMHead:
    options = {"param_dtype": jnp.float64, "bias_init": nnx.initializers.normal(1.0)} | options
    return TiedLMHead(V, D, rngs=nnx.Rngs(1), **options)


def with_values(module: Any, **values: jax.Array) -> Any:
    """The module with other values of its parameters."""
    graph, state = nnx.split(module)
    nnx.replace_by_pure_dict(state, values)
    return nnx.merge(graph, state)


class Model(nnx.Module):
    """A table, a layer and a head, which is plain or ours."""

    def __init__(self, head: type[nnx.Linear], **options: Any) -> None:
        rngs = nnx.Rngs(5)
        self.embed = nnx.Embed(V, D, param_dtype=jnp.float64, rngs=rngs)
        self.body = nnx.Linear(D, D, rngs=rngs, **WIDE)
        self.head = head(D, V, rngs=rngs, **WIDE, **options)

    def hidden(self, tokens: jax.Array) -> jax.Array:
        return jnp.tanh(self.body(self.embed(tokens)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(self.hidden(tokens))


def model_loss(model: Model, tokens: jax.Array, labels: jax.Array) -> jax.Array:
    return model.head.loss(model.hidden(tokens), labels, **CHUNKS)


@nnx.jit
@nnx.value_and_grad
def plain_step(model: Model, tokens: jax.Array, labels: jax.Array) -> jax.Array:
    """Loss and gradients from the logits."""
    losses = optax.softmax_cross_entropy_with_integer_labels(model(tokens), labels)
    return jnp.mean(losses)


def batch(seed: int = 0, size: int = 8) -> tuple[jax.Array, jax.Array]:
    """Tokens and labels, none of them ignored."""
    drawn = np.random.default_rng(seed).integers(0, V, (2, size, 5), dtype=np.int32)
    return jnp.asarray(drawn[0]), jnp.asarray(drawn[1])


def test_flax_is_imported_only_where_it_is_wanted(pytestconfig):
    program = "import sys, jax_impl; sys.exit('flax' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=pytestconfig.rootpath, check=True)


# The plain head.


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


def assert_identical(result: Any, expected: Any) -> None:
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


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


# The loss.


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


# What Flax and Optax do with a head.


@pytest.mark.parametrize("transform", [nnx.jit, nnx.remat])
def test_transforms(transform):
    """Inside the gradient; training, below, has it around."""
    model, (tokens, labels) = Model(LMHead), batch()
    step = nnx.jit(nnx.value_and_grad(transform(model_loss)))
    assert_same(step(model, tokens, labels), plain_step(model, tokens, labels))


@pytest.mark.usefixtures("standard_promotion")
def test_trains_as_the_plain_head_does():
    @nnx.jit
    @nnx.value_and_grad
    def our_step(model, tokens, labels):
        return model_loss(model, tokens, labels)

    @nnx.jit
    def update(model, optimizer, gradients):
        optimizer.update(model, gradients)

    def train(model, step):
        optimizer, losses = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param), []
        for _ in range(4):
            loss, gradients = step(model, *batch())
            update(model, optimizer, gradients)
            losses.append(loss)
        return losses, jax.tree.leaves(nnx.state(model))

    losses, trained = train(Model(LMHead), our_step)
    plain_losses, plain_trained = train(Model(nnx.Linear), plain_step)
    assert losses[-1] < losses[0] - 0.01
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-12)
    for one, other in zip(trained, plain_trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.usefixtures("standard_promotion")
def test_gradient_accumulation():
    """Four micro-batches make the step of one batch, and nothing before the fourth."""
    parts, (tokens, labels) = Model(LMHead), batch()
    initial = jax.tree.map(jnp.copy, nnx.state(parts))

    @nnx.jit
    def step(model, optimizer, tokens, labels):
        optimizer.update(model, nnx.grad(model_loss)(model, tokens, labels))

    transformation = optax.MultiSteps(optax.sgd(0.5), 4, accumulator_dtype=jnp.float64)
    optimizer = nnx.Optimizer(parts, transformation, wrt=nnx.Param)
    for part in range(4):
        assert_identical(nnx.state(parts), initial)
        here = slice(2 * part, 2 * part + 2)
        step(parts, optimizer, tokens[here], labels[here])
    _, gradients = plain_step(Model(nnx.Linear), tokens, labels)
    assert_same(nnx.state(parts), jax.tree.map(lambda p, g: p - 0.5 * g, initial, gradients))


# Without the logits.

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


# The tied head.


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


# Bad input.


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
