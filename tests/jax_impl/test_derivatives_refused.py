"""Forward mode and second derivatives raise; they never return zeros."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest

from jax_impl import linear_cross_entropy, standard_linear_cross_entropy

SECOND = r"linear_cross_entropy: second derivatives are not supported"
FORWARD = r"forward-mode"  # JAX says it, of any custom_vjp
HIDDEN, WEIGHT, BIAS = range(3)


@pytest.fixture
def arrays():
    key = jax.random.key(0)
    return jax.random.normal(key, (3, 4)), jax.random.normal(key, (5, 4)), jnp.ones(5)


# Of "none" there is no one_pass.
CALLS = {
    f"{reduction}, {strategy}": {"reduction": reduction, "strategy": strategy}
    for reduction in ("mean", "sum", "none")
    for strategy in ("two_pass", "one_pass")
    if (reduction, strategy) != ("none", "one_pass")
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
every_mean = pytest.mark.parametrize("call", [CALLS["mean, two_pass"], CALLS["mean, one_pass"]])


def loss_with(call):
    def loss(hidden, weight, bias):
        labels = jnp.array([0, 4, -100])
        losses = linear_cross_entropy(
            hidden, weight, labels, bias=bias, vocab_chunk=2, token_chunk=2, **call
        )
        return jnp.sum(losses)

    return loss


@every_call
@pytest.mark.parametrize("argument", [HIDDEN, WEIGHT, BIAS])
@pytest.mark.parametrize("jit", [False, True])
def test_forward_mode(arrays, argument, call, jit):
    tangents = [
        jnp.ones_like(a) if i == argument else jnp.zeros_like(a) for i, a in enumerate(arrays)
    ]
    loss = loss_with(call)
    with pytest.raises(TypeError, match=FORWARD):
        jax.jvp(jax.jit(loss) if jit else loss, arrays, tuple(tangents))


@every_call
@pytest.mark.parametrize("outer", [HIDDEN, WEIGHT, BIAS])
@pytest.mark.parametrize("inner", [HIDDEN, WEIGHT, BIAS])
@pytest.mark.parametrize("again", [jax.jacrev, jax.jacfwd])
def test_second_derivatives(arrays, again, inner, outer, call):
    """Reverse and forward over reverse, in the same argument and mixed."""
    gradient = jax.grad(loss_with(call), inner)
    message = SECOND if again is jax.jacrev or call["strategy"] == "one_pass" else FORWARD
    with pytest.raises(TypeError, match=message):
        jax.eval_shape(again(gradient, outer), *arrays)  # refused while it is traced


@every_mean
def test_hessian(arrays, call):
    with pytest.raises(TypeError, match=f"{FORWARD}|{SECOND}"):
        jax.hessian(loss_with(call))(*arrays)


@every_mean
def test_second_derivative_through_the_cotangent(arrays, call):
    """The gradient depends on what the loss is multiplied by: that is a second derivative."""

    def scaled_gradient(scale):
        return jnp.sum(
            jax.grad(lambda hidden: scale * loss_with(call)(hidden, *arrays[1:]))(arrays[0])
        )

    with pytest.raises(TypeError, match=SECOND):
        jax.grad(scaled_gradient)(jnp.float32(2))


@every_mean
def test_second_derivative_under_jit(arrays, call):
    gradient = jax.grad(lambda *inputs: jnp.sum(jax.grad(loss_with(call))(*inputs)))
    with pytest.raises(TypeError, match=SECOND):
        jax.jit(gradient)(*arrays)


def test_the_standard_loss_has_them(arrays):
    """What the message sends the reader to does work."""
    standard = functools.partial(standard_linear_cross_entropy, labels=jnp.array([0, 4, -100]))
    hessian = jax.jit(jax.hessian(lambda hidden: standard(hidden, arrays[1])))(arrays[0])
    assert bool(jnp.any(hessian != 0))
