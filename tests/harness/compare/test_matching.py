"""Which records are of one case, and which are of none."""

from __future__ import annotations

import pytest

from harness.compare.matching import match
from tests.harness.compare.records import (
    make_anatomy,
    make_breaking_point,
    make_floor,
    make_record,
    times,
)


def test_cases_are_matched_by_name():
    old = [make_record("a"), make_record("gone")]
    new = [make_record("new"), make_record("a", status="oom")]
    matched = match(old, new)
    (pair,) = matched.pairs
    assert (pair.old, pair.new) == (old[0], new[1])
    assert matched.only_old == ("torch-chunked-gone (cpu)",)
    assert matched.only_new == ("torch-chunked-new (cpu)",)


def test_another_device_is_another_case():
    matched = match([make_record()], [make_record(device="gpu")])
    assert matched.pairs == ()
    assert matched.only_old == ("torch-chunked-a (cpu)",)
    assert matched.only_new == ("torch-chunked-a (gpu)",)


def test_a_case_that_died_before_it_named_its_device_is_still_that_case():
    (pair,) = match([make_record()], [make_record(status="error", device=None)]).pairs
    assert pair.new["status"] == "error"


def test_a_case_that_was_run_again_counts_as_it_ended_last():
    (pair,) = match([make_record()], [make_record(status="error"), make_record()]).pairs
    assert pair.new["status"] == "ok"


@pytest.mark.parametrize(
    "record",
    [
        make_floor(),
        make_record(mode="breaking_point", breaking_point=None),
        make_record(case_id=None),
    ],
)
def test_what_is_no_case_of_its_own(record):
    matched = match([record], [record])
    assert (matched.pairs, matched.only_old, matched.only_new) == ((), (), ())


@pytest.mark.parametrize(
    "record",
    [
        make_record(),
        make_record(mode="sweep"),
        make_breaking_point(1000, 1050),
        make_anatomy(1000),
    ],
)
def test_what_is(record):
    assert len(match([record], [record]).pairs) == 1


def test_each_run_has_its_own_floor():
    old = [make_record(variant="floor", step_s=times(2)), make_record()]
    other_shape = make_record(variant="floor", step_s=times(9), vocab_size=64)
    failed = make_record(variant="floor", step_s=times(9), status="error")
    (pair,) = match(old, [make_floor(3), make_record(), other_shape, failed]).pairs
    assert (pair.old_floor_s, pair.new_floor_s, pair.machine_ratio) == (2.0, 3.0, 1.5)
    (pair,) = match(old, [make_record(), other_shape, failed]).pairs
    assert (pair.old_floor_s, pair.new_floor_s, pair.machine_ratio) == (2.0, None, None)
