"""The loss in loops and branches of a program: gradient accumulation, training, evaluation."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax
import pytest
from jax import lax

from jax_impl import linear_cross_entropy
from loss_spec.inputs import make_inputs
from tests.jax_impl.programs import count_matmuls, tokens_of_a_loop
from tests.jax_impl.rounding import assert_same

# Three micro-batches of five tokens, none of the chunks a divisor of its axis.
MICRO_BATCHES = 3
CHUNKS = {"vocab_chunk": 100, "token_chunk": 3}


@pytest.fixture(scope="module")
def arrays():
    inputs = make_inputs(
        seed=0,
        num_tokens=5 * MICRO_BATCHES,
        hidden_dim=8,
        vocab_size=507,
        dtype="float32",
        ignored_fraction=0.2,
    )
    hidden, weight, labels = map(jnp.asarray, inputs)
    return hidden.reshape(MICRO_BATCHES, 5, 8), weight, labels.reshape(MICRO_BATCHES, 5)


loss_sum = functools.partial(linear_cross_entropy, reduction="sum", **CHUNKS)
every_strategy = pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])


@every_strategy
def test_accumulated_gradients_are_those_of_one_batch(arrays, strategy):
    """With a sum, divided once by the number of tokens: the mean of micro-batches is another."""
    hidden, weight, labels = arrays

    @jax.jit
    def accumulate(hidden, weight, labels):
        def micro_batch(carry, batch):
            hidden, labels = batch
            loss = functools.partial(loss_sum, return_aux=True, strategy=strategy)
            gradients = jax.value_and_grad(loss, (0, 1), has_aux=True)
            (value, aux), (grad_hidden, grad_weight) = gradients(hidden, weight, labels)
            step = (value, grad_weight, aux.num_tokens)
            return jax.tree.map(jnp.add, carry, step), grad_hidden

        nothing = (jnp.float32(0), jnp.zeros_like(weight), jnp.int32(0))
        return lax.scan(micro_batch, nothing, (hidden, labels))

    (total, grad_weight, num_tokens), grad_hidden = accumulate(hidden, weight, labels)
    result = jax.tree.map(lambda x: x / int(num_tokens), (total, (grad_hidden, grad_weight)))
    mean = functools.partial(linear_cross_entropy, **CHUNKS)
    assert num_tokens == jnp.sum(labels != -100)
    assert_same(result, jax.jit(jax.value_and_grad(mean, (0, 1)))(hidden, weight, labels))


@pytest.mark.parametrize(("argnums", "gradients"), [((0, 1), 2), (0, 1), (1, 1)])
@every_strategy
def test_gradient_of_a_scan(arrays, strategy, argnums, gradients):
    """The scan outside: its backward runs the loss's, and computes what is needed alone."""

    def scanned(hidden, weight, labels):
        def step(total, batch):
            return total + loss_sum(batch[0], weight, batch[1], strategy=strategy), None

        return lax.scan(step, jnp.float32(0), (hidden, labels))[0]

    step = jax.value_and_grad(scanned, argnums)
    logits = {"two_pass": 2, "one_pass": 1}[strategy]
    one = MICRO_BATCHES, tokens_of_a_loop(5, 3), 8, 507
    assert count_matmuls(step, *arrays, one=one) == logits + gradients
    expected = jax.jit(jax.value_and_grad(loss_sum, argnums))(*arrays)
    assert_same(jax.jit(step)(*arrays), expected)


@every_strategy
def test_training_inside_a_scan(arrays, strategy):
    """Three steps of SGD as one program are three steps of SGD."""
    hidden, weight, labels = arrays
    optimizer = optax.sgd(0.5, momentum=0.9)

    def step(carry, batch):
        weight, state = carry
        value, gradient = jax.value_and_grad(
            lambda weight: linear_cross_entropy(
                batch[0], weight, batch[1], strategy=strategy, **CHUNKS
            )
        )(weight)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(weight, updates), state), value

    start = (weight, optimizer.init(weight))
    result = jax.jit(lambda *batches: lax.scan(step, start, batches))(hidden, labels)
    carry, values = start, []
    for batch in zip(hidden, labels, strict=True):
        carry, value = jax.jit(step)(carry, batch)
        values.append(value)
    assert_same(result, (carry, jnp.stack(values)))


@pytest.mark.parametrize("wanted", [True, False])
def test_loss_in_a_branch(arrays, wanted):
    """A loss that is not wanted, as that of an auxiliary head, has gradients of zero."""

    def branch(hidden, weight, labels):
        return lax.cond(wanted, loss_sum, lambda *arrays: jnp.float32(0), hidden, weight, labels)

    result = jax.jit(jax.value_and_grad(branch, (0, 1)))(*arrays)
    expected = jax.jit(jax.value_and_grad(loss_sum, (0, 1)))(*arrays)
    assert_same(result, expected if wanted else jax.tree.map(jnp.zeros_like, expected))


def test_loss_in_a_while_loop(arrays):
    """Forward alone, as in an evaluation of unknown length; a loop cannot be differentiated."""
    hidden, weight, labels = arrays

    def evaluate(num_batches):
        def step(carry):
            index, total = carry
            return index + 1, total + loss_sum(hidden[index], weight, labels[index])

        start = (jnp.int32(0), jnp.float32(0))
        return lax.while_loop(lambda carry: carry[0] < num_batches, step, start)[1]

    assert_same(jax.jit(evaluate)(MICRO_BATCHES), loss_sum(hidden, weight, labels))


def test_wrong_label_inside_a_scan_is_nan(arrays):
    hidden, weight, labels = arrays
    labels = labels.at[1, 2].set(507)
    step = jax.value_and_grad(loss_sum)
    values, grad_hidden = lax.map(lambda batch: step(batch[0], weight, batch[1]), (hidden, labels))
    assert jnp.isnan(values).tolist() == [False, True, False]
    assert jnp.argwhere(jnp.isnan(grad_hidden).all(axis=2)).tolist() == [[1, 2]]
