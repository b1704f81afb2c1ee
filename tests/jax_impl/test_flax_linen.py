"""The Linen heads: parameters and logits of the plain head, and the loss of its logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.errors import CallCompactUnboundModuleError
from flax.training.train_state import TrainState

from jax_impl import linear_cross_entropy, standard_linear_cross_entropy
from jax_impl.flax_linen import LMHead, TiedLMHead
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

KEY = jax.random.key(0)
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


def make_head(**options: Any) -> tuple[LMHead, Any]:
    """With a bias that is not 0."""
    head = LMHead(V, **(WIDE | {"bias_init": nn.initializers.normal(1.0)} | options))
    return head, head.init(KEY, arrays()[0])


def make_embed(num_embeddings: int = V, **options: Any) -> nn.Embed:
    """Bound, as it is in a model."""
    embed = nn.Embed(num_embeddings, D, **({"param_dtype": jnp.float64} | options))
    return embed.bind(embed.init(KEY, jnp.zeros(1, jnp.int32)))


class Model(nn.Module):
    """A table, a layer and a head, which is plain or ours."""

    make_head: Callable[..., nn.Module]

    def setup(self) -> None:
        self.embed = nn.Embed(V, D, param_dtype=jnp.float64)
        self.body = nn.Dense(D, **WIDE)
        self.head = self.make_head(V, **WIDE)

    def hidden(self, tokens: jax.Array) -> jax.Array:
        return jnp.tanh(self.body(self.embed(tokens)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(self.hidden(tokens))

    def loss(self, tokens: jax.Array, labels: jax.Array) -> jax.Array:
        return self.head.loss(self.hidden(tokens), labels, **CHUNKS)


class CompactModel(nn.Module):
    """The same in the other style, for training and inference by what it is given."""

    make_head: Callable[..., nn.Module]
    wrap: Callable[[Any], Any] = lambda head: head
    name_of_head: str | None = None

    @nn.compact
    def __call__(self, tokens: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        hidden = nn.Embed(V, D, param_dtype=jnp.float64)(tokens)
        hidden = jnp.tanh(nn.Dense(D, **WIDE)(hidden))
        head = self.wrap(self.make_head)(V, **WIDE, name=self.name_of_head)
        return head(hidden) if labels is None else head.loss(hidden, labels)


def batch(size: int = 8) -> tuple[jax.Array, jax.Array]:
    """Tokens and labels, none of them ignored."""
    drawn = np.random.default_rng(0).integers(0, V, (2, size, 5), dtype=np.int32)
    return jnp.asarray(drawn[0]), jnp.asarray(drawn[1])


@jax.jit
@jax.value_and_grad
def plain_step(params: Any, tokens: jax.Array, labels: jax.Array) -> jax.Array:
    """Loss and gradients from the logits of the plain model."""
    logits = Model(nn.Dense).apply({"params": params}, tokens)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def assert_identical(result: Any, expected: Any) -> None:
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


# The plain head.


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


# The loss.


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


# What Flax and Optax do with a head.


def value_and_grad(model: nn.Module, params: Any, *inputs: Any, **how: Any) -> Any:
    def loss(params):
        return model.apply({"params": params}, *inputs, **how)

    return jax.jit(jax.value_and_grad(loss))(params)


REMATS = {
    "remat of the model": nn.remat(CompactModel)(LMHead),
    "remat of the head": CompactModel(LMHead, wrap=lambda c: nn.remat(c, methods=["loss"])),
}


@pytest.mark.parametrize("model", REMATS.values(), ids=REMATS)
def test_remat(model):
    tokens, labels = batch()
    params = model.init(KEY, tokens, labels)["params"]
    (head,) = (name for name in params if "LMHead" in name)
    named = {"embed": params["Embed_0"], "body": params["Dense_0"], "head": params[head]}
    expected, gradients = plain_step(named, tokens, labels)
    gradients = {
        "Embed_0": gradients["embed"],
        "Dense_0": gradients["body"],
        head: gradients["head"],
    }
    assert_same(value_and_grad(model, params, tokens, labels), (expected, gradients))


def test_scan_over_micro_batches():
    """`nn.scan` with broadcast parameters: the mean over the parts is that of the whole."""
    tokens, labels = batch()
    model = Model(LMHead)
    params = model.init(KEY, tokens)["params"]
    parts = tokens.reshape(4, 2, 5), labels.reshape(4, 2, 5)

    def scanned(model, tokens, labels):
        step = nn.scan(
            lambda model, carry, part: (carry + model.loss(*part), None),
            variable_broadcast="params",
            split_rngs={"params": False},
        )
        return step(model, jnp.zeros(()), (tokens, labels))[0] / 4

    result = value_and_grad(model, params, *parts, method=scanned)
    assert_same(result, plain_step(params, tokens, labels))


@pytest.mark.usefixtures("standard_promotion")
def test_train_state_trains_as_with_the_plain_head():
    model, (tokens, labels) = Model(LMHead), batch()
    params = model.init(KEY, tokens, labels, method="loss")["params"]

    @jax.jit
    @jax.value_and_grad
    def our_step(params, tokens, labels):
        return model.apply({"params": params}, tokens, labels, method="loss")

    @jax.jit
    def update(state, gradients):
        return state.apply_gradients(grads=gradients)

    def train(step):
        state, losses = initial, []
        for _ in range(4):
            loss, gradients = step(state.params, tokens, labels)
            state = update(state, gradients)
            losses.append(loss)
        return losses, jax.tree.leaves(state.params)

    initial = TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-2))
    (losses, trained), (plain_losses, plain_trained) = train(our_step), train(plain_step)
    assert losses[-1] < losses[0] - 0.01
    np.testing.assert_allclose(losses, plain_losses, rtol=1e-12)
    for one, other in zip(trained, plain_trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.usefixtures("standard_promotion")
def test_gradient_accumulation():
    """Four micro-batches make the step of one batch, and nothing before the fourth."""
    model, (tokens, labels) = Model(LMHead), batch()
    params = model.init(KEY, tokens)["params"]

    @jax.jit
    def step(state, tokens, labels):
        def loss(params):
            return state.apply_fn({"params": params}, tokens, labels, method="loss")

        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    transformation = optax.MultiSteps(optax.sgd(0.5), 4, accumulator_dtype=jnp.float64)
    parts = TrainState.create(apply_fn=model.apply, params=params, tx=transformation)
    for part in range(4):
        assert_identical(parts.params, params)
        here = slice(2 * part, 2 * part + 2)
        parts = step(parts, tokens[here], labels[here])
    _, gradients = plain_step(params, tokens, labels)
    assert_same(parts.params, jax.tree.map(lambda p, g: p - 0.5 * g, params, gradients))


# Without the logits.


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


# The tied head.


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


# Bad input.


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
