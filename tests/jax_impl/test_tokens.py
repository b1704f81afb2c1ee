"""Blocks of tokens, those that count first: each once, and none for those that are ignored."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_impl.labels import IGNORED, OUT_OF_RANGE
from jax_impl.tokens import order_tokens
from loss_spec import rest_block

# (tokens, size of a block): smaller blocks for the rest from 512 on.
SIZES = [(1, 1), (10, 3), (12, 4), (1000, 512), (1024, 512), (2048, 1024), (2047, 1024), (5, 8)]
every_size = pytest.mark.parametrize(("num_tokens", "size"), SIZES)
FRACTIONS = [0.0, 0.1, 0.75, 1.0]


def draw_codes(num_tokens, ignored_fraction):
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 50, num_tokens)
    codes[::7] = OUT_OF_RANGE  # counts, and its loss is NaN
    ignored = generator.permutation(num_tokens) < round(ignored_fraction * num_tokens)
    return np.where(ignored, IGNORED, codes).astype(np.int32)


@every_size
@pytest.mark.parametrize("ignored_fraction", FRACTIONS)
def test_each_token_that_counts_is_in_one_block(num_tokens, size, ignored_fraction):
    codes = draw_codes(num_tokens, ignored_fraction)
    values = np.arange(1.0, num_tokens + 1, dtype=np.float32)

    @jax.jit
    def visit(codes, values):
        tokens = order_tokens(codes, size)
        ordered = tokens.order(values)

        def body(seen, block):
            of_block = jnp.where(block.take(tokens.codes) == IGNORED, 0, block.take(ordered))
            return block.put(seen, block.take(seen) + of_block)

        return tokens.restore(tokens.fold(body, jnp.zeros(len(tokens.codes))))

    np.testing.assert_array_equal(visit(codes, values), np.where(codes == IGNORED, 0, values))


@pytest.mark.cpu_only("on a GPU, where the host would wait, every token is in a block")
@every_size
@pytest.mark.parametrize("ignored_fraction", FRACTIONS)
def test_blocks_are_as_many_as_the_tokens_that_count(num_tokens, size, ignored_fraction):
    """But for the last one, and for tokens that are all in one block."""
    codes = draw_codes(num_tokens, ignored_fraction)

    @jax.jit
    def work(codes):
        tokens = order_tokens(codes, size)
        return tokens.fold(lambda total, block: total + block.size, jnp.int32(0))

    counted = int((codes != IGNORED).sum())
    most = num_tokens if num_tokens <= size else counted + rest_block(size) - 1
    assert counted <= work(codes) <= most


def test_hidden_of_ignored_tokens_is_zero_whatever_it_holds():
    codes = draw_codes(10, 0.5)
    hidden = np.where(codes[:, None] == IGNORED, np.nan, 1.0).astype(np.float32) * np.ones(3)

    def body(total, block):
        return total + block.hidden(jnp.asarray(hidden), block.take(tokens.codes)).sum()

    for size in (3, 10):
        tokens = order_tokens(jnp.asarray(codes), size)
        assert float(tokens.fold(body, jnp.zeros(()))) == 3 * (codes != IGNORED).sum()
