"""What the loss does on a GPU, done on a CPU: every token in a block as it comes, no widening."""

from __future__ import annotations

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import pytest

from harness.conformance.hard_problems import small_probabilities
from harness.conformance.problem import make_problem, solve
from harness.gpu_compiler.h100 import traced_for_a_gpu
from jax_impl.labels import IGNORED
from jax_impl.tokens import order_tokens
from tests.conformance.evaluation import CHUNKED, Framework, assert_fair, errors, evaluate
from tests.tables import grid

pytestmark = pytest.mark.cpu_only("on a GPU every test takes that path")

EVERYTHING = {
    "logit_softcap": 2.0, "logit_scale": -0.5, "label_smoothing": 0.1, "z_loss": 1e-3,
    "has_class_weight": True, "has_token_weight": True,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def gpu() -> Iterator[None]:
    with traced_for_a_gpu():
        yield


# A token_chunk of 15 is a single block.
@grid(
    dtype=("float32", "bfloat16"),
    strategy=("two_pass", "one_pass"),
    token_chunk=(4, 15),
    ignored_fraction=(0.4, 1.0),
)
def test_right(dtype, strategy, token_chunk, ignored_fraction):
    problem = make_problem(dtype=dtype, ignored_fraction=ignored_fraction, **EVERYTHING)
    assert_fair(Framework("jax"), problem, strategy=strategy, token_chunk=token_chunk)


def test_float16_mean_over_many_tokens():
    """Gradients of logits that are below float16's range unless they are scaled up first."""
    problem = small_probabilities()
    result = evaluate(Framework("jax"), CHUNKED, problem, strategy="two_pass")
    assert errors(result, solve(problem))["grad_weight"] <= np.finfo(np.float16).eps


@pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])
def test_what_ignored_tokens_hold_is_never_read(strategy):
    problem = make_problem()
    hidden = problem.hidden.copy()
    hidden[problem.labels == -100] = np.nan
    options = {"strategy": strategy, "token_chunk": 4}
    clean, other = (
        evaluate(Framework("jax"), CHUNKED, each, **options)
        for each in (problem, problem.but(hidden=hidden))
    )
    np.testing.assert_array_equal(clean.loss, other.loss)
    np.testing.assert_array_equal(clean.grad_hidden, other.grad_hidden)
    np.testing.assert_array_equal(clean.grad_weight, other.grad_weight)


@pytest.mark.parametrize(("num_tokens", "size"), [(10, 3), (12, 4), (5, 8), (1, 1), (0, 4)])
def test_each_token_is_in_one_block_in_its_place(num_tokens, size):
    codes = jnp.where(jnp.arange(num_tokens) % 3 == 0, IGNORED, 1)
    tokens = order_tokens(codes, size)
    values = jnp.arange(1.0, num_tokens + 1)

    def body(seen, block):
        return block.put(seen, block.take(seen) + block.take(tokens.order(values)))

    found = tokens.restore(tokens.fold(body, jnp.zeros(num_tokens)))
    np.testing.assert_array_equal(found, values)
