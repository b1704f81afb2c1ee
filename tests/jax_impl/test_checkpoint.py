"""`jax.checkpoint` around the loss, alone or behind a layer: same answer, still no logits.

No policy may look into the loss. Its forward returns a few numbers a token, which a
policy can keep or have computed again; the logits are no business of anybody.
"""

from __future__ import annotations

import functools
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import pytest

from harness.gpu_compiler.h100 import traced_for_a_gpu
from jax_impl import linear_cross_entropy
from loss_spec.inputs import make_inputs
from tests.jax_impl.programs import (
    abstract_arrays,
    count_matmuls,
    largest_buffer,
    temporary_bytes,
    tokens_of_a_loop,
)
from tests.jax_impl.rounding import assert_same
from tests.tables import grid, optimized

POLICIES = jax.checkpoint_policies

# How often a step with the loss alone runs its forward. A checkpoint that does not keep what
# that returns, statistics or gradients, runs it again. "dots" keeps the results of matmuls,
# and the loss is not one, though it is made of them.
FORWARDS = {
    "default": (None, 2),
    "nothing": (POLICIES.nothing_saveable, 2),
    "everything": (POLICIES.everything_saveable, 1),
    "dots": (POLICIES.dots_saveable, 2),
    "dots without batch": (POLICIES.dots_with_no_batch_dims_saveable, 2),
}
policies = pytest.mark.parametrize(("policy", "forwards"), FORWARDS.values(), ids=FORWARDS)
every_strategy = pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])

# Matmuls of forward and backward where both gradients are needed: one less for a frozen
# operand, in the backward of two passes and in the forward of one.
MATMULS = {"two_pass": (1, 3), "one_pass": (3, 0)}


def make_body(labels, strategy):
    """A layer and the loss, and a new function each time."""

    def body(hidden, weight, kernel):
        hidden = jnp.tanh(hidden @ kernel)
        options = {"vocab_chunk": 100, "token_chunk": 7, "strategy": strategy}
        return linear_cross_entropy(hidden, weight, labels, **options)

    return body


@every_strategy
@policies
def test_same_loss_and_gradients(policy, forwards, strategy):
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

    checkpointed = step(jax.checkpoint(make_body(labels, strategy), policy=policy))
    assert_same(checkpointed, step(make_body(labels, strategy)))


@every_strategy
@policies
def test_matmuls(policy, forwards, strategy):
    arrays = abstract_arrays(15, 8, 507)
    loss = make_loss(vocab_chunk=100, token_chunk=7, strategy=strategy)
    loss = jax.checkpoint(loss, policy=policy)

    def count(function):
        return count_matmuls(function, *arrays, one=(tokens_of_a_loop(15, 7), 8, 507))

    for argnums, frozen in (((0, 1), 0), (0, 1)):
        forward, backward = MATMULS[strategy]
        if strategy == "two_pass":
            backward -= frozen
        else:
            forward -= frozen
        # What is run again was run for the loss: in a scan, as on a GPU, for nothing but that.
        first = 1 if jax.default_backend() == "gpu" else forward
        expected = (forwards - 1) * first + forward + backward
        assert count(jax.grad(loss, argnums)) == expected
    assert count(loss) == 1


@optimized
@pytest.mark.cpu_only("it compares the buffers of XLA's CPU compiler")
@grid(
    policy={name: policy for name, (policy, _) in FORWARDS.items()},
    strategy=("two_pass", "one_pass"),
    traced_for={"a CPU": nullcontext, "a GPU": traced_for_a_gpu},
)
def test_no_policy_keeps_the_logits(policy, strategy, traced_for):
    """Nor anything else that a step without checkpoint lacks, but statistics.

    On a CPU the loops over tokens end early, which hides them from any policy; the loops that a
    GPU gets would show.
    """
    num_tokens, hidden_dim, vocab_size = 256, 16, 4096
    arrays = abstract_arrays(num_tokens, hidden_dim, vocab_size)

    def compile_step(wrap):
        loss = wrap(make_loss(vocab_chunk=256, token_chunk=64, strategy=strategy))
        return jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arrays).compile()

    with traced_for():
        plain = compile_step(lambda loss: loss)
        checkpointed = compile_step(functools.partial(jax.checkpoint, policy=policy))
    assert largest_buffer(checkpointed) < num_tokens * vocab_size
    # The statistics twice: five arrays of a number a token, generously.
    assert temporary_bytes(checkpointed) <= temporary_bytes(plain) + 2 * 5 * 4 * num_tokens


@every_strategy
@pytest.mark.parametrize("policy", [None, POLICIES.dots_saveable], ids=["default", "dots"])
def test_second_derivatives_are_refused(policy, strategy):
    arrays = abstract_arrays(15, 8, 507)
    loss = jax.checkpoint(make_loss(vocab_chunk=100, strategy=strategy), policy=policy)
    gradient = jax.grad(lambda *arrays: jnp.sum(jax.grad(loss)(*arrays)))
    with pytest.raises(TypeError, match=r"linear_cross_entropy: second derivatives are not"):
        jax.eval_shape(gradient, *arrays)


def make_loss(**options):
    return lambda *arrays: linear_cross_entropy(*arrays, **options)
