"""Labels of every integer dtype, and labels that are no class."""

from __future__ import annotations

import re

import numpy as np
import pytest

from harness.conformance.problem import Problem, make_problem
from tests.conformance.evaluation import CHUNKED, STANDARD, assert_fair

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
CHUNKS = {"vocab_chunk": 100, "token_chunk": 7}


def problem_with_labels(dtype: str, labels: list[int]) -> Problem:
    """These labels, over and over, for the tokens of the default problem (V=507)."""
    problem = make_problem(reduction="none")
    return problem.but(labels=np.resize(np.array(labels, dtype), len(problem.labels)))


@pytest.mark.parametrize("dtype", SIGNED)
def test_signed_labels(framework, dtype):
    problem = problem_with_labels(dtype, [0, 5, -100, 127, 99, 100])
    result = assert_fair(framework, problem, **CHUNKS)
    assert (result.loss == 0).tolist() == (problem.labels == -100).tolist()


@pytest.mark.parametrize("dtype", UNSIGNED)
def test_unsigned_labels(framework, dtype):
    """-100 as eight bits is 156: a class like any other, never ignored."""
    problem = problem_with_labels(dtype, [0, 5, 156, 255, 99, 100])
    result = assert_fair(framework, problem, **CHUNKS)
    assert result.loss.all()


@pytest.mark.parametrize("dtype", SIGNED + UNSIGNED)
def test_largest_value_of_the_dtype_as_ignore_index(framework, dtype):
    """All bits set, the usual mark in an unsigned dtype."""
    ignore_index = int(np.iinfo(dtype).max)
    problem = problem_with_labels(dtype, [0, 5, 101, ignore_index, 99, 100])
    options = {"ignore_index": ignore_index, "reduction": "none"}
    loss = framework.call(
        CHUNKED, problem.hidden, problem.weight, problem.labels, **options, **CHUNKS
    )
    assert (loss == 0).tolist() == (problem.labels == ignore_index).tolist()


OUT_OF_RANGE = {
    "one past the end": ("int32", [0, 300, -7], "labels[1] = 300"),
    "negative": ("int32", [0, 1, -7], "labels[2] = -7"),
    "near the ignore_index": ("int8", [-99, -100, 0], "labels[0] = -99"),
    "a sentinel of the implementation": ("int64", [-1, 0, 0], "labels[0] = -1"),
    "another one": ("int64", [-2, 0, 0], "labels[0] = -2"),
    "beyond int32": ("int64", [0, 2**32, 0], f"labels[1] = {2**32}"),
    "-100 of 64 bits": ("uint64", [0, 0, 2**64 - 100], f"labels[2] = {2**64 - 100}"),
    "-100 of 32 bits": ("uint32", [0, 0, 2**32 - 100], f"labels[2] = {2**32 - 100}"),
    "with a batch axis": ("int32", [[0, -100], [0, 301]], "labels[1, 1] = 301"),
    "a scalar": ("int32", 301, "labels = 301"),
}


@pytest.mark.parametrize("function", [CHUNKED, STANDARD])
@pytest.mark.parametrize(("dtype", "labels", "got"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE)
def test_label_out_of_range(framework, dtype, labels, got, function, pytestconfig):
    """Refused, with the first position at which one stands; on a GPU, where nobody looks, NaN."""
    labels = np.array(labels, dtype)
    hidden = np.ones((*labels.shape, 4), np.float32)
    weight = np.ones((300, 4), np.float32)
    if pytestconfig.getoption("device") == "gpu":
        losses = framework.call(function, hidden, weight, labels, reduction="none")
        is_wrong = [label != -100 and not 0 <= label < 300 for label in labels.ravel().tolist()]
        assert np.isnan(losses).ravel().tolist() == is_wrong
        return
    expected = f"labels: expected values in [0, 300) or ignore_index, got {got}"
    with pytest.raises(ValueError, match=re.escape(expected) + "$"):
        framework.call(function, hidden, weight, labels)
