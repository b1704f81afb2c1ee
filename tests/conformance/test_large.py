"""Tokens x vocabulary beyond 2^31: no index of ours counts that far."""

from __future__ import annotations

import numpy as np
import pytest

from loss_spec.inputs import make_inputs
from loss_spec.reference import reference_linear_cross_entropy, relative_error
from tests.conformance.evaluation import CHUNKED, Framework

NUM_TOKENS = VOCAB_SIZE = 46_400  # the square is 2^31 and a little
ROWS = np.r_[0:8, NUM_TOKENS - 8 : NUM_TOKENS]


@pytest.mark.parametrize("strategy", ["two_pass", "one_pass"])
def test_more_logits_than_31_bits_can_count(framework, strategy):
    """Nearly all tokens ignored, those at both ends counted: the same as those alone."""
    arrays = make_inputs(
        seed=0, num_tokens=NUM_TOKENS, hidden_dim=2, vocab_size=VOCAB_SIZE, dtype="float32"
    )
    hidden, weight, labels = (np.array(array) for array in arrays)
    labels[np.setdiff1d(np.arange(NUM_TOKENS), ROWS)] = -100
    labels[ROWS[-1]] = VOCAB_SIZE - 1
    expected = reference_linear_cross_entropy(hidden[ROWS], weight, labels[ROWS], reduction="none")
    losses = framework.call(
        CHUNKED, hidden, weight, labels, reduction="none", strategy=strategy, token_chunk=512
    )
    assert relative_error(losses[ROWS], expected.loss) < 1e-6
    total = framework.call(CHUNKED, hidden, weight, labels, strategy=strategy, token_chunk=512)
    assert abs(total / np.mean(expected.loss) - 1) < 1e-6


@pytest.mark.large("a tile of 2^31 float32 numbers takes 8 GiB")
def test_one_tile_of_more_numbers_than_31_bits_can_count():
    """All tokens counted in one tile: the rows at its far end are right.

    In PyTorch, which does its own arithmetic on the buffer; in JAX that is the compiler's.
    """
    arrays = make_inputs(
        seed=0, num_tokens=NUM_TOKENS, hidden_dim=2, vocab_size=VOCAB_SIZE, dtype="float32"
    )
    hidden, weight, labels = (np.array(array) for array in arrays)
    expected = reference_linear_cross_entropy(hidden[ROWS], weight, labels[ROWS], reduction="none")
    losses = Framework("torch").call(
        CHUNKED,
        hidden,
        weight,
        labels,
        reduction="none",
        token_chunk=NUM_TOKENS,
        vocab_chunk=VOCAB_SIZE,
    )
    assert relative_error(losses[ROWS], expected.loss) < 1e-6
