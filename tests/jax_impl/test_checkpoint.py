"""`jax.checkpoint` around the loss, alone or behind a layer: same answer, still no logits.

No policy may look into the loss. Its forward returns a few numbers a token, which a
policy can keep or have computed again; the logits are no business of anybody.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import pytest

from jax_impl import linear_cross_entropy
from loss_spec.inputs import make_inputs
from tests.jax_impl.programs import abstract_arrays, count_matmuls, largest_buffer, temporary_bytes
from tests.jax_impl.rounding import assert_same

POLICIES = jax.checkpoint_policies

# Matmuls of a step with the loss alone. What is differentiated runs the forward (1) and the
# backward (3: logits again, two gradients). A checkpoint that does not keep what the forward
# of the loss returns, its statistics, runs it again. "dots" keeps the results of matmuls,
# and the loss is not one, though it is made of them.
FORWARD, BACKWARD = 1, 3
MATMULS = {
    "default": (None, 2 * FORWARD + BACKWARD),
    "nothing": (POLICIES.nothing_saveable, 2 * FORWARD + BACKWARD),
    "everything": (POLICIES.everything_saveable, FORWARD + BACKWARD),
    "dots": (POLICIES.dots_saveable, 2 * FORWARD + BACKWARD),
    "dots without batch": (POLICIES.dots_with_no_batch_dims_saveable, 2 * FORWARD + BACKWARD),
}
policies = pytest.mark.parametrize(("policy", "matmuls"), MATMULS.values(), ids=MATMULS)


def make_body(labels):
    """A layer and the loss, and a new function each time."""

    def body(hidden, weight, kernel):
        hidden = jnp.tanh(hidden @ kernel)
        return linear_cross_entropy(hidden, weight, labels, vocab_chunk=100, token_chunk=7)

    return body


@policies
def test_same_loss_and_gradients(policy, matmuls):
    inputs = make_inputs(
        seed=0,
        num_tokens=15,
        hidden_dim=8,
        vocab_size=507,
        dtype="float32",
        ignored_fraction=0.2,
    )
    hidden, weight, labels = map(jnp.asarray, inputs)
    kernel = jnp.asarray(weight[:8])

    def step(body):
        return jax.jit(jax.value_and_grad(body, (0, 1, 2)))(hidden, weight, kernel)

    checkpointed = step(jax.checkpoint(make_body(labels), policy=policy))
    assert_same(checkpointed, step(make_body(labels)))


@policies
def test_matmuls(policy, matmuls):
    arrays = abstract_arrays(15, 8, 507)
    loss = jax.checkpoint(make_loss(vocab_chunk=100, token_chunk=7), policy=policy)
    assert count_matmuls(jax.grad(loss, (0, 1)), *arrays) == matmuls
    assert count_matmuls(jax.grad(loss), *arrays) == matmuls - 1  # a frozen weight stays frozen
    assert count_matmuls(loss, *arrays) == FORWARD


@policies
def test_no_policy_keeps_the_logits(policy, matmuls):
    """Nor anything that a step without checkpoint would not have, but statistics."""
    num_tokens, hidden_dim, vocab_size = 256, 16, 4096
    arrays = abstract_arrays(num_tokens, hidden_dim, vocab_size)

    def compile_step(wrap):
        loss = wrap(make_loss(vocab_chunk=256, token_chunk=64))
        return jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arrays).compile()

    plain = compile_step(lambda loss: loss)
    checkpointed = compile_step(functools.partial(jax.checkpoint, policy=policy))
    assert largest_buffer(checkpointed) < num_tokens * vocab_size
    # The statistics twice: five arrays of a number a token, generously.
    assert temporary_bytes(checkpointed) <= temporary_bytes(plain) + 2 * 5 * 4 * num_tokens


@pytest.mark.parametrize("policy", [None, POLICIES.dots_saveable], ids=["default", "dots"])
def test_second_derivatives_are_refused(policy):
    arrays = abstract_arrays(15, 8, 507)
    loss = jax.checkpoint(make_loss(vocab_chunk=100), policy=policy)
    gradient = jax.grad(lambda *arrays: jnp.sum(jax.grad(loss)(*arrays)))
    with pytest.raises(TypeError, match=r"linear_cross_entropy: second derivatives are not"):
        jax.eval_shape(gradient, *arrays)


def make_loss(**options):
    return lambda *arrays: linear_cross_entropy(*arrays, **options)
