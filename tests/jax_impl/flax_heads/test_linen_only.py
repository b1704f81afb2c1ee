"""What Linen alone has: two methods that may create parameters, unbound modules, lifting."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import CallCompactUnboundModuleError

from jax_impl.flax_linen import LMHead, TiedLMHead
from tests.jax_impl.flax_heads.cases import (
    LOGITS,
    D,
    V,
    arrays,
    assert_identical,
    batch,
    model_values,
    tied_values,
)
from tests.jax_impl.flax_heads.expected import expected_of, model_step, shaped
from tests.jax_impl.flax_heads.linen_models import (
    KEY,
    CompactModel,
    CompactTiedModel,
    Model,
    make_embed,
    make_head,
    make_tied_model,
)
from tests.jax_impl.programs import equations
from tests.jax_impl.rounding import assert_same

INITIALISERS = {
    "defaults": {},
    "no bias": {"use_bias": False, "param_dtype": jnp.bfloat16},
    "initialisers": {
        "dtype": jnp.bfloat16,
        "kernel_init": nn.with_partitioning(nn.initializers.normal(), ("embed", "vocab")),
        "bias_init": nn.initializers.normal(1.0),
    },
}


@pytest.mark.parametrize("options", INITIALISERS.values(), ids=INITIALISERS)
def test_loss_creates_the_parameters_of_the_logits(options):
    hidden, labels = arrays("float32")
    hidden = hidden.astype(options.get("dtype") or options.get("param_dtype", jnp.float32))
    head = LMHead(V, **options)
    variables = head.init(KEY, hidden, labels, method="loss")
    assert_identical(variables, nn.Dense(V, **options).init(KEY, hidden))


def test_loss_creates_the_bias_of_a_tied_head():
    hidden, labels = arrays()
    embed = make_embed()
    assert not jax.tree.leaves(TiedLMHead(V, D).init(KEY, hidden, embed))
    head = TiedLMHead(V, D, use_bias=True, param_dtype=jnp.bfloat16, bias_init=nn.initializers.ones)
    variables = {"params": {"bias": jnp.ones(V, jnp.bfloat16)}}
    assert_identical(head.init(KEY, hidden, embed), variables)
    assert_identical(head.init(KEY, hidden, labels, embed, method="loss"), variables)


def test_initialising_with_the_loss_forms_no_logits():
    hidden, labels = jnp.zeros((256, 16), jnp.float32), jnp.zeros(256, jnp.int32)
    head, chunks = LMHead(4096), {"vocab_chunk": 256, "token_chunk": 64}

    def largest(init):
        return max(out.aval.size for e in equations(init, KEY) for out in e.outvars)

    assert largest(lambda key: head.init(key, hidden)) >= 256 * 4096  # it would have been seen
    assert largest(lambda key: head.init(key, hidden, labels, method="loss", **chunks)) < 256 * 4096


@pytest.mark.parametrize("logit_options", LOGITS.values(), ids=LOGITS)
def test_one_call_of_a_model_has_logits_and_loss(logit_options):
    hidden, labels = arrays()
    head, variables = make_head(**logit_options).unbind()

    def both(head, hidden, labels):
        return head(hidden), head.loss(hidden, labels), head(hidden)

    logits, loss, again = head.apply(variables, hidden, labels, method=both)
    expected, _ = expected_of(logits, np.eye(V), labels, vocab_axis=0)
    assert_same(loss, expected)
    assert_identical(again, logits)


def test_compact_model_keeps_the_name_of_dense():
    tokens, labels = batch()
    variables = CompactModel(nn.Dense).init(KEY, tokens)
    ours = CompactModel(LMHead, name_of_head="Dense_1")
    assert_identical(ours.init(KEY, tokens, labels), variables)
    logits = ours.apply(variables, tokens)
    assert_identical(logits, CompactModel(nn.Dense).apply(variables, tokens))
    expected, _ = expected_of(logits, np.eye(V), labels, vocab_axis=0)
    assert_same(ours.apply(variables, tokens, labels), expected)


def test_compact_tied_model():
    tokens, labels = (array % D for array in batch())
    model, variables = make_tied_model().unbind()
    table = tied_values()["embed"]["embedding"]
    compact = CompactTiedModel()
    created = compact.init(KEY, tokens)
    assert_identical(created, model.init(KEY, tokens, labels, method="loss"))
    assert jax.tree.structure(created) == jax.tree.structure(variables)
    logits = compact.apply(variables, tokens)
    assert_identical(logits, model.apply(variables, tokens))
    assert_same(logits, shaped(jnp.tanh(table[tokens]) @ table.T, logit_softcap=1.5))


def test_unbound_head():
    """Linen's own error, which says to use apply."""
    hidden, labels = arrays()
    with pytest.raises(CallCompactUnboundModuleError):
        LMHead(V)(hidden)
    with pytest.raises(CallCompactUnboundModuleError):
        LMHead(V).loss(hidden, labels)


def test_unbound_embed():
    head = TiedLMHead(V, D).bind({})
    with pytest.raises(ValueError, match=r"^embedding: expected a bound nn\.Embed.* its table"):
        head.loss(*arrays(), nn.Embed(V, D))


REMATS = {
    "remat of the model": nn.remat(CompactModel)(LMHead),
    "remat of the head": CompactModel(nn.remat(LMHead, methods=["loss"])),
}


@pytest.mark.parametrize("model", REMATS.values(), ids=REMATS)
def test_remat(model):
    tokens, labels = batch()
    (head,) = (name for name in _created(model, tokens, labels) if "LMHead" in name)
    names = {"embed": "Embed_0", "body": "Dense_0", "head": head}
    result = _value_and_grad(model, _renamed(model_values(), names), tokens, labels)
    value, gradients = model_step(model_values(), tokens, labels)
    assert_same(result, (value, _renamed(gradients, names)))


def test_scan_over_micro_batches():
    """`nn.scan` with broadcast parameters: the mean over the parts is that of the whole."""
    tokens, labels = batch()

    def scanned(model, tokens, labels):
        step = nn.scan(
            lambda model, carry, part: (carry + model.loss(*part), None),
            variable_broadcast="params",
            split_rngs={"params": False},
        )
        return step(model, jnp.zeros(()), (tokens, labels))[0] / 4

    parts = tokens.reshape(4, 2, 5), labels.reshape(4, 2, 5)
    result = _value_and_grad(Model(LMHead), model_values(), *parts, method=scanned)
    assert_same(result, model_step(model_values(), tokens, labels))


def _created(model, *inputs):
    return jax.eval_shape(model.init, KEY, *inputs)["params"]


def _renamed(values, names):
    return {names[name]: value for name, value in values.items()}


def _value_and_grad(model, params, *inputs, **how):
    def loss(params):
        return model.apply({"params": params}, *inputs, **how)

    return jax.jit(jax.value_and_grad(loss))(params)
