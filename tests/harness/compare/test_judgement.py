"""What is a change beyond the noise, what is none, and what cannot be judged."""

from __future__ import annotations

import pytest

from harness.compare.judgement import judge
from harness.compare.matching import match
from harness.compare.step_time import enough_samples
from tests.harness.compare.records import (
    MIB,
    QUIET_S,
    make_anatomy,
    make_breaking_point,
    make_floor,
    make_memory,
    make_record,
    times,
)

THRESHOLD_PERCENT = 5


def judged(old, new, threshold_percent=THRESHOLD_PERCENT):
    """Of the only case in two lists of records: the kinds of change, the reasons for none."""
    (pair,) = match(old, new).pairs
    verdict = judge(pair, threshold_percent)
    assert verdict.case_id == "torch-chunked-a"
    kinds = [change.kind for change in verdict.changes]
    return kinds, [each.reason for each in verdict.not_judged]


@pytest.mark.parametrize(
    ("floors", "samples", "kinds"),
    [
        pytest.param((1, 1), times(1), [], id="the same"),
        pytest.param((1, 1), times(1.1), ["slower"], id="10 % slower"),
        pytest.param((1, 1), times(1.04), [], id="within the threshold"),
        pytest.param((1, 1), times(0.9), ["faster"], id="10 % faster"),
        pytest.param((1, 1.2), times(1.2), [], id="the whole machine 20 % slower"),
        pytest.param((1, 0.8), times(0.8), [], id="the whole machine 20 % faster"),
        pytest.param((1, 1.2), times(1.35), ["slower"], id="slower on a slower machine"),
        pytest.param((1, 0.9), times(1), [], id="slower only over a floor that was lucky"),
        pytest.param(None, times(1.1), ["slower"], id="no floor to hold it against"),
        pytest.param((1, None), times(1.1), ["slower"], id="no floor in the new run"),
        pytest.param((1, 1), [0.9, 0.95, 1.1, 1.2, 1.3], [], id="slower at the median, but noisy"),
        pytest.param((1, 1), [1.1, 1.1, 1.1, 1.1, 9.0], ["slower"], id="an outlier hides nothing"),
        pytest.param((1, 1), [1.0, 1.0, 1.0, 1.0, 9.0], [], id="an outlier is no slowdown"),
    ],
)
def test_step_time(floors, samples, kinds):
    old_floor, new_floor = (
        [] if factor is None else [make_floor(factor)] for factor in floors or (None, None)
    )
    old, new = [*old_floor, make_record()], [*new_floor, make_record(step_s=samples)]
    assert judged(old, new) == (kinds, [])


@pytest.mark.parametrize(
    ("own", "others", "kinds"),
    [
        pytest.param(1, 1, ["slower"], id="the machine is what it was"),
        pytest.param(1, 1.2, [], id="slower, which one lucky floor does not show"),
        pytest.param(1.2, 1, [], id="slower at this shape alone"),
    ],
)
def test_the_machine_is_judged_by_the_floor_of_the_shape_and_by_all(own, others, kinds):
    old = [make_floor(), *other_floors(1), make_record()]
    new = [make_floor(own), *other_floors(others), make_record(step_s=times(1.2))]
    assert judged(old, new) == (kinds, [])


def other_floors(factor):
    return [make_floor(factor) | {"vocab_size": size} for size in (64, 128)]


def test_the_threshold_is_that_of_the_caller():
    old, new = [make_record()], [make_record(step_s=times(1.15))]
    assert judged(old, new, threshold_percent=10) == (["slower"], [])
    assert judged(old, new, threshold_percent=20) == ([], [])


def test_a_slower_case_says_by_how_much():
    old = [make_floor(0.5), make_record()]
    new = [make_floor(0.5), make_record(step_s=times(1.1))]
    (pair,) = match(old, new).pairs
    (change,) = judge(pair, THRESHOLD_PERCENT).changes
    assert (change.figure, change.old, change.new) == ("step", "1,000 ms", "1,100 ms")
    assert change.percent == pytest.approx(10)
    assert change.over_floor == pytest.approx((2.0, 2.2))


@pytest.mark.parametrize(
    ("old_count", "new_count", "enough"),
    [(3, 3, False), (4, 4, False), (5, 4, True), (5, 5, True), (0, 5, False), (2, 20, True)],
)
def test_too_few_steps_are_said_to_be(old_count, new_count, enough):
    assert enough_samples(old_count, new_count) == enough
    # Twice as slow: where the samples suffice at all, they suffice for that.
    old, new = [1 + i / 1000 for i in range(old_count)], [2 + i / 1000 for i in range(new_count)]
    kinds, reasons = judged([make_record(step_s=old)], [make_record(step_s=new)])
    assert kinds == (["slower"] if enough else [])
    assert [f"{old_count} and {new_count} steps are too few" in each for each in reasons] == (
        [] if enough else [True]
    )
    assert all("--repeats=5 is enough" in each for each in reasons)


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        pytest.param(make_memory(), make_memory(), [], id="the same"),
        pytest.param(
            make_memory(), make_memory(17 * MIB), [("larger", "workspace")], id="6 % larger"
        ),
        pytest.param(
            make_memory(17 * MIB), make_memory(), [("smaller", "workspace")], id="6 % smaller"
        ),
        pytest.param(
            make_memory(700 * MIB), make_memory(704 * MIB), [], id="4 MiB, but less than 1 %"
        ),
        pytest.param(
            make_memory(MIB), make_memory(MIB + 60 * 1024), [], id="6 %, but less than 64 KiB"
        ),
        pytest.param(
            make_memory(0), make_memory(MIB), [("larger", "workspace")], id="from nothing"
        ),
        pytest.param(
            make_memory(),
            make_memory(gradients_bytes=110 * MIB),
            [("larger", "peak")],
            id="larger in what it returns",
        ),
        pytest.param(None, None, [], id="not measured"),
    ],
)
def test_memory(old, new, changed):
    (pair,) = match([make_record(memory=old)], [make_record(memory=new)]).pairs
    verdict = judge(pair, THRESHOLD_PERCENT)
    assert [(change.kind, change.figure) for change in verdict.changes] == changed
    assert not verdict.not_judged


@pytest.mark.parametrize(
    ("new", "word"), [(make_memory(999 * MIB, probe="counters"), "counters"), (None, "none")]
)
def test_memory_by_different_probes_is_not_judged(new, word):
    kinds, (reason,) = judged([make_record()], [make_record(memory=new)])
    assert kinds == []
    assert reason == f"memory: the probe was events, is {word}"


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        (100 * MIB, 100 * MIB, []),
        (100 * MIB, 102 * MIB, [("larger", "peak")]),
        (102 * MIB, 100 * MIB, [("smaller", "peak")]),
        (800 * MIB, 804 * MIB, []),
        (MIB, MIB + 60 * 1024, []),
    ],
    ids=["the same", "2 % larger", "2 % smaller", "less than 1 %", "less than 64 KiB"],
)
def test_anatomies_are_compared_by_their_peak(old, new, changed):
    (pair,) = match([make_anatomy(old)], [make_anatomy(new)]).pairs
    verdict = judge(pair, THRESHOLD_PERCENT)
    assert [(change.kind, change.figure) for change in verdict.changes] == changed
    assert not verdict.not_judged


def test_anatomies_from_different_sources_are_not_judged():
    kinds, (reason,) = judged([make_anatomy(MIB)], [make_anatomy(9 * MIB, source="counters")])
    assert kinds == []
    assert reason == "memory: the probe was events, is counters"


@pytest.mark.parametrize(
    ("old", "new", "kinds"),
    [
        ("ok", "oom", ["broke"]),
        ("ok", "mismatch", ["broke"]),
        ("ok", "error", ["broke"]),
        ("ok", "timeout", ["broke"]),
        ("oom", "error", ["broke"]),
        ("oom", "ok", ["mended"]),
        ("mismatch", "ok", ["mended"]),
        ("error", "ok", ["mended"]),
        ("timeout", "oom", ["mended"]),
        ("oom", "oom", []),
    ],
)
def test_status(old, new, kinds):
    # Figures that a case that did not end well has left are not held against others.
    assert judged([make_record(status=old)], [make_record(status=new, step_s=times(2))]) == (
        kinds,
        [],
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [("ok", "unavailable"), ("unavailable", "ok"), ("unavailable", "unavailable"),
     ("error", "error"), ("timeout", "mismatch")],
)  # fmt: skip
def test_status_that_tells_nothing(old, new):
    kinds, (reason,) = judged([make_record(status=old)], [make_record(status=new)])
    assert kinds == []
    words = {"timeout": "timed out"}
    assert reason == f"the case: was {words.get(old, old)}, is {words.get(new, new)}"


@pytest.mark.parametrize(
    ("old", "new", "kinds"),
    [
        pytest.param((1000, 1050), (1000, 1050), [], id="the same"),
        pytest.param((1000, 1050), (900, 940), ["breaks earlier"], id="10 % earlier"),
        pytest.param((900, 940), (1000, 1050), ["breaks later"], id="11 % later"),
        pytest.param((1000, 1050), (955, 1000), [], id="one step of the search"),
        pytest.param((1000, 1050), (960, 990), [], id="fails at less, but by less than 5 %"),
        pytest.param((1000, 1050), (900, 1100), [], id="the limit may be the same"),
        pytest.param((1000, None), (900, None), [], id="neither found a limit"),
        pytest.param((1000, None), (800, 840), ["breaks earlier"], id="a limit where was none"),
        pytest.param((1000, 1050), (None, 64), ["breaks earlier"], id="nothing runs"),
        pytest.param((None, 64), (None, 64), [], id="nothing ran"),
    ],
)
def test_breaking_point(old, new, kinds):
    assert judged([make_breaking_point(*old)], [make_breaking_point(*new)]) == (kinds, [])


def test_breaking_points_along_different_axes_are_not_judged():
    old, new = make_breaking_point(1000, 1050), make_breaking_point(10, 11, axis="num_tokens")
    kinds, (reason,) = judged([old], [new])
    assert kinds == []
    assert reason == "breaking point: the axis was vocab_size, is num_tokens"


def test_a_case_can_be_slower_and_larger():
    new = make_record(step_s=times(1.2), memory=make_memory(32 * MIB))
    assert judged([make_record()], [new]) == (["slower", "larger"], [])


@pytest.mark.parametrize(
    "record",
    [
        make_record(),
        make_record(step_s=[0.1, 5.0, 0.2, 4.0, 0.3, 9.0, 1.0]),
        make_record(step_s=[1.0] * 5),
        make_record(step_s=QUIET_S * 20),
        make_record(status="oom"),
        make_breaking_point(1000, 1050),
    ],
)
def test_a_record_is_the_same_as_itself(record):
    assert judged([record], [record]) == ([], [])
