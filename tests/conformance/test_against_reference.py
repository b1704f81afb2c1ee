"""Loss and all gradients against float64: within the rule for every kind of call."""

from __future__ import annotations

from itertools import cycle

import pytest

from harness.conformance.problem import make_problem
from tests.conformance.evaluation import assert_fair
from tests.tables import grid

DTYPES = ("float16", "bfloat16", "float32", "float64")

# (vocab_chunk, token_chunk) for V=507 and N=15.
CHUNKS = {
    "both divide": (169, 5),
    "vocab ragged": (100, 5),
    "tokens ragged": (39, 4),
    "both ragged": (100, 7),
    "one class": (1, 8),
    "one token": (200, 1),
    "last of one": (253, 2),
    "exactly the axes": (507, 15),
    "longer than the axes": (1000, 64),
    "chosen by the plan": (None, None),
}


# What costs time is a JAX compilation, one for each dtype, layout, bias and pair of chunks.
# So every dtype gets three of them here, and every pair is seen in float32 below.
# Name: (vocab_axis, has_bias, pair of chunks).
CALLS = {
    "[V, D], bias": (0, True, CHUNKS["both ragged"]),
    "[V, D]": (0, False, CHUNKS["tokens ragged"]),
    "[D, V], bias": (1, True, CHUNKS["vocab ragged"]),
}
# (reduction, fraction of the labels that are ignored)
COUNTED = (
    ("mean", 0.4), ("sum", 0.4), ("none", 0.4),
    ("mean", 0.0), ("mean", 1.0), ("none", 0.0), ("none", 1.0),
)  # fmt: skip


@grid(dtype=DTYPES, call=CALLS, counted=COUNTED)
def test_every_combination_of_options(framework, dtype, call, counted):
    vocab_axis, has_bias, (vocab_chunk, token_chunk) = call
    reduction, ignored_fraction = counted
    problem = make_problem(
        dtype=dtype,
        vocab_axis=vocab_axis,
        has_bias=has_bias,
        reduction=reduction,
        ignored_fraction=ignored_fraction,
    )
    assert_fair(framework, problem, vocab_chunk=vocab_chunk, token_chunk=token_chunk)


@pytest.mark.parametrize(
    ("chunks", "vocab_axis"), list(zip(CHUNKS.values(), cycle((0, 1)))), ids=CHUNKS
)
def test_every_pair_of_chunk_sizes(framework, chunks, vocab_axis):
    problem = make_problem(vocab_axis=vocab_axis, has_bias=vocab_axis == 0, reduction="none")
    assert_fair(framework, problem, vocab_chunk=chunks[0], token_chunk=chunks[1])


def test_hidden_without_a_batch_axis(framework):
    """One token as a vector [D], its label a scalar."""
    flat = make_problem(num_tokens=1, ignored_fraction=0.0)
    problem = flat.but(hidden=flat.hidden[0], labels=flat.labels.reshape(()))
    assert_fair(framework, problem, vocab_chunk=100)
