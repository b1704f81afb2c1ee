"""The plan keeps what the caller asked for, and never a chunk longer than its axis."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loss_spec import LossOptions, Problem, make_plan


def problem(num_tokens, vocab_size):
    return Problem(
        token_shape=(num_tokens,),
        num_tokens=num_tokens,
        hidden_dim=8,
        vocab_size=vocab_size,
        dtype="float32",
    )


axis = st.one_of(st.integers(1, 20), st.integers(1, 2**22))
chunk = st.one_of(st.none(), axis)


@settings(derandomize=True, database=None)
@given(
    num_tokens=st.one_of(st.just(0), axis),
    vocab_size=axis,
    vocab_chunk=chunk,
    token_chunk=chunk,
    on_cpu=st.booleans(),
)
def test_chunks(num_tokens, vocab_size, vocab_chunk, token_chunk, on_cpu):
    options = LossOptions(vocab_chunk=vocab_chunk, token_chunk=token_chunk)
    plan = make_plan(problem(num_tokens, vocab_size), options, on_cpu=on_cpu)
    assert 1 <= plan.vocab_chunk <= vocab_size
    assert 1 <= plan.token_chunk <= max(num_tokens, 1)
    if vocab_chunk is not None:
        assert plan.vocab_chunk == min(vocab_chunk, vocab_size)
    if token_chunk is not None:
        assert plan.token_chunk == min(token_chunk, max(num_tokens, 1))


@settings(derandomize=True, database=None)
@given(num_tokens=axis, vocab_size=axis, on_cpu=st.booleans())
def test_chosen_tile_is_bounded(num_tokens, vocab_size, on_cpu):
    """However large the problem: the tile is what the workspace is made of."""
    plan = make_plan(problem(num_tokens, vocab_size), LossOptions(), on_cpu=on_cpu)
    assert plan.token_chunk * plan.vocab_chunk <= (2**21 if on_cpu else 2**26)


@pytest.mark.parametrize("strategy", ["auto", "two_pass"])
def test_strategy(strategy):
    plan = make_plan(problem(16, 100), LossOptions(strategy=strategy), on_cpu=True)
    assert plan.strategy == "two_pass"
