"""A loss that JAX has traced once is differentiated in one argument and then in another.

`jit`, `checkpoint`, `scan` and `cond` keep the traced program, and with it whatever the
rule of the loss keeps between its forward and its backward. What is needed is another
thing each time, and must not be taken from the wrong one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jax_impl import linear_cross_entropy
from loss_spec.inputs import make_inputs
from tests.jax_impl.programs import count_matmuls, tokens_of_a_loop
from tests.jax_impl.rounding import assert_same

HIDDEN, WEIGHT, BIAS = range(3)


@pytest.fixture(scope="module")
def arrays():
    hidden, weight, _ = make_inputs(
        seed=0, num_tokens=15, hidden_dim=8, vocab_size=507, dtype="float32"
    )
    return jnp.asarray(hidden), jnp.asarray(weight), jnp.linspace(-1, 1, 507)


@pytest.fixture(scope="module", params=["two_pass", "one_pass"])
def strategy(request):
    return request.param


def make_loss(strategy):
    """A new function each time: JAX knows its traced programs by it."""
    labels = jnp.arange(15) * 30

    def loss(hidden, weight, bias):
        options = {"vocab_chunk": 100, "token_chunk": 7, "strategy": strategy}
        return linear_cross_entropy(hidden, weight, labels, bias=bias, **options)

    return loss


@pytest.fixture(scope="module")
def expected(arrays, strategy):
    """Gradients of a loss that is traced anew for each."""
    return tuple(jax.grad(make_loss(strategy), argument)(*arrays) for argument in range(3))


def in_scan(loss):
    def scanned(*arrays):
        return lax.scan(lambda total, _: (total + loss(*arrays), None), 0.0, length=1)[0]

    return jax.jit(scanned)


def in_cond(loss):
    return lambda *arrays: lax.cond(True, loss, lambda *arrays: 0.0, *arrays)


TRACED = {
    "jit": jax.jit,
    "checkpoint": jax.checkpoint,
    "scan": in_scan,
    "cond": in_cond,
}
traced = pytest.mark.parametrize("wrap", TRACED.values(), ids=TRACED)


@traced
def test_all_forwards_before_any_backward(arrays, expected, wrap, strategy):
    loss = wrap(make_loss(strategy))
    pulls = []
    for argument, array in enumerate(arrays):

        def of_one(array, argument=argument):
            return loss(*arrays[:argument], array, *arrays[argument + 1 :])

        pulls.append(jax.vjp(of_one, array)[1])
    assert_same(tuple(pull(jnp.float32(1))[0] for pull in pulls), expected)


@traced
def test_twice_in_one_step(arrays, expected, wrap, strategy):
    """As with two heads of one model, one of which is frozen."""
    loss = wrap(make_loss(strategy))

    def total(*arrays):
        first, second = (
            loss(*(lax.stop_gradient(a) if i == argument else a for i, a in enumerate(arrays)))
            for argument in (WEIGHT, HIDDEN)
        )
        return first + second

    hidden, weight, bias = expected
    assert_same(jax.grad(total, (HIDDEN, WEIGHT, BIAS))(*arrays), (hidden, weight, 2 * bias))


def test_one_after_the_other_and_again(arrays, expected, strategy):
    loss = in_cond(make_loss(strategy))
    for argument in (HIDDEN, WEIGHT, HIDDEN, WEIGHT):
        assert_same(jax.grad(loss, argument)(*arrays), expected[argument])


def test_another_policy_for_the_same_body(arrays, expected, strategy):
    body = make_loss(strategy)
    for policy in (None, jax.checkpoint_policies.everything_saveable):
        loss = jax.checkpoint(body, policy=policy)
        for argument in (HIDDEN, WEIGHT):
            assert_same(jax.grad(loss, argument)(*arrays), expected[argument])


def test_nothing_is_computed_that_is_not_needed(arrays, strategy):
    """Each call on its own: a matmul less for the gradient of hidden alone."""
    loss = jax.jit(make_loss(strategy))

    def total(hidden, weight, bias):
        return loss(hidden, weight, bias) + loss(hidden, lax.stop_gradient(weight), bias)

    step = jax.grad(total, (HIDDEN, WEIGHT))
    both = {"two_pass": 4, "one_pass": 3}[strategy]
    one = tokens_of_a_loop(15, 7), 8, 507
    assert count_matmuls(step, *arrays, one=one) == both + both - 1
