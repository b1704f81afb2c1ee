"""Medians, spreads and ratios, and None wherever one of them cannot be had."""

from __future__ import annotations

import pytest

from harness.report.measures import (
    Baselines,
    Spread,
    error_over_tolerance,
    forward_time,
    group_key,
    memory_bytes,
    settle,
    spread,
    step_ratio,
    step_time,
    workspace_ratio,
)


def timed(record, *step_s):
    return record | {"timing": {"step_s": list(step_s), "forward_s": None}}


@pytest.mark.parametrize(
    ("samples", "expected", "percent"),
    [
        ([2.0], Spread(2.0, 2.0, 2.0), 0.0),
        ([3.0, 1.0, 2.0], Spread(2.0, 1.0, 3.0), 50.0),
        ([1.0, 1.0, 1.0, 2.0], Spread(1.0, 1.0, 2.0), 100.0),
    ],
)
def test_spread_is_median_with_minimum_and_maximum(samples, expected, percent):
    assert spread(samples) == expected
    assert expected.percent == pytest.approx(percent)


@pytest.mark.parametrize("timing", [None, {}, {"step_s": None}, {"step_s": []}])
def test_what_was_not_timed_is_none(make_record, timing):
    record = make_record(timing=timing)
    assert step_time(record) is None
    assert forward_time(record) is None


def test_memory_that_was_not_measured_is_none_and_never_zero(make_record):
    assert memory_bytes(make_record(memory=None), "peak") is None
    assert memory_bytes(make_record(memory={"peak_bytes": None}), "peak") is None


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("errors", "tolerance", "expected"),
    [
        ((1e-6, 4e-6, 2e-6), (1e-5, 1e-5, 1e-5), 0.4),
        ((1e-6, 4e-6, 2e-6), (1e-5, 1e-4, 1e-6), 2.0),
        ((1e-6, 0.0, NAN), (1e-5, 1e-5, 1e-5), NAN),
        ((NAN, 1.0, 0.0), (1e-5, 1e-5, 1e-5), NAN),
        ((1e-6, INFINITE, 0.0), (1e-5, 1e-5, 1e-5), INFINITE),
        ((1e-6, 0.0, 0.0), (0.0, 1e-5, 1e-5), INFINITE),
        ((None, 1e-6, 1e-6), (1e-5, 1e-5, 1e-5), 0.1),
    ],
)
def test_error_over_tolerance_is_the_worst_one(make_record, errors, tolerance, expected):
    names = ("loss_error", "grad_hidden_error", "grad_weight_error")
    limits = {"tolerance": dict(zip(names, tolerance, strict=True))}
    record = make_record(numerics=dict(zip(names, errors, strict=True)) | limits)
    assert error_over_tolerance(record) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("numerics", [None, {}, {"loss_error": 1e-6}])
def test_no_error_over_no_tolerance(make_record, numerics):
    assert error_over_tolerance(make_record(numerics=numerics)) is None


def test_step_ratios_are_of_medians(make_record):
    records = [
        timed(make_record(variant="standard"), 2.0, 2.0, 9.0),
        timed(make_record(variant="chunked"), 3.0, 2.5, 3.5),
        timed(make_record(variant="floor"), 1.0),
    ]
    assert step_ratio(Baselines(records), records[1], "standard") == pytest.approx(1.5)
    assert step_ratio(Baselines(records), records[1], "floor") == pytest.approx(3.0)
    assert step_ratio(Baselines(records), records[0], "standard") == pytest.approx(1.0)


@pytest.mark.parametrize(
    "change",
    [
        {"run": "another"},
        {"framework": "jax"},
        {"device": "gpu"},
        {"dtype": "bfloat16"},
        {"batch_size": 2},
        {"seq_len": 1024},
        {"hidden_dim": 256},
        {"vocab_size": 16384},
        {"options": {"ignored_fraction": 0.5}},
        {"options": {"memory_limit_gib": 1.0}},
    ],
)
def test_no_ratio_across_groups(make_record, change):
    standard, chunked = make_record(), make_record(variant="chunked", **change)
    assert group_key(standard) != group_key(chunked)
    assert step_ratio(Baselines([standard, chunked]), chunked, "standard") is None
    assert workspace_ratio(Baselines([standard, chunked]), chunked) is None


@pytest.mark.parametrize("over", ["standard", "floor"])
def test_stream_has_no_ratio(make_record, over):
    """Its time over a loss's says nothing."""
    records = [make_record(variant=name) for name in ("standard", "floor", "stream")]
    assert step_ratio(Baselines(records), records[1], over) is not None
    assert step_ratio(Baselines(records), records[2], over) is None


@pytest.mark.parametrize("status", ["oom", "mismatch", "timeout", "error"])
def test_only_ok_records_have_or_give_ratios(make_record, status):
    good = make_record(variant="chunked")
    bad = make_record() | {"status": status}
    assert step_ratio(Baselines([bad, good]), good, "standard") is None
    good, bad = make_record(), make_record(variant="chunked") | {"status": status}
    assert step_ratio(Baselines([good, bad]), bad, "standard") is None
    assert workspace_ratio(Baselines([good, bad]), bad) is None


def test_workspace_ratio_needs_one_probe(make_record):
    standard, chunked = make_record(), make_record(variant="chunked")
    expected = memory_bytes(chunked, "workspace") / memory_bytes(standard, "workspace")
    assert workspace_ratio(Baselines([standard, chunked]), chunked) == pytest.approx(expected)
    other = chunked | {"memory": chunked["memory"] | {"probe": "another"}}
    assert workspace_ratio(Baselines([standard, other]), other) is None


def test_settle_keeps_the_last_record_of_a_case(make_record):
    first = make_record(status="error", case_id="a")
    second = make_record(case_id="a")
    others = [make_record(case_id="a", run_id="other"), make_record(case_id="a", run="copy")]
    assert settle([first, make_record(case_id="b"), second, *others])[1:] == [second, *others]


def test_settle_gives_a_dead_case_the_device_of_its_framework(make_record):
    dead = make_record(status="oom", device=None)
    alive = make_record(variant="chunked", device="gpu")
    assert settle([dead, alive])[0]["device"] == "gpu"
    undecided = settle([dead, alive, make_record(variant="floor", device="cpu")])
    assert undecided[0]["device"] is None
    other_run = make_record(variant="floor", device="cpu", run="other")
    assert settle([dead, alive, other_run])[0]["device"] == "gpu"
    assert dead["device"] is None, "records are not changed in place"
