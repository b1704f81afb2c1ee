"""What a step is split into, and the tables that show it."""

from __future__ import annotations

import pytest

from harness.report.roofline import ceilings, split
from harness.report.roofline_section import METHOD_NOTE, MORE_THAN_ALL_NOTE, roofline_section
from tests.harness.report.roofline.sections import device_rows, step_rows, table


def test_step_is_split_by_the_yardsticks(timed, yardsticks, tmp_path):
    records = [*yardsticks(), timed("standard", 150), timed("two_pass", 400, nvd=8)]
    (device,) = device_rows(records, tmp_path)
    assert device == {
        "framework": "torch", "V": "8192", "floor ms": "100", "floor ± %": "0",
        "matmuls TFLOP/s": "0.52", "stream ms": "4.00", "stream ± %": "0",
        "memory GB/s": "8.39", "FLOP per byte": "61.4",
    }  # fmt: skip
    standard, two_pass = step_rows(records, tmp_path)
    assert standard == {
        "framework": "torch", "variant": "standard", "V": "8192", "step ms": "150", "NVD": "6",
        "matmuls ms": "100", "matmuls %": "66.7", "rest ms": "50.0", "rest B/logit": "25.0",
        "bound by": "matmuls",
    }  # fmt: skip
    assert [two_pass[name] for name in ("NVD", "matmuls ms", "matmuls %", "rest B/logit")] == [
        "8", "133", "33.3", "133"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "memory"), [("float64", "16.8"), ("float32", "8.39"), ("bfloat16", "4.19")]
)
def test_stream_moves_the_weight_twice_in_its_dtype(yardsticks, tmp_path, dtype, memory):
    (device,) = device_rows(yardsticks(dtype=dtype), tmp_path)
    assert (device["memory GB/s"], device["matmuls TFLOP/s"]) == (memory, "0.52")


@pytest.mark.parametrize(
    ("variant", "device", "planned", "nvd"),
    [
        ("standard", "cpu", None, 6),
        ("liger", "gpu", None, 6),
        ("linear_cross_entropy_chunked", "cpu", None, 6),
        ("cut_cross_entropy", "cpu", None, 6),
        ("cut_cross_entropy", "gpu", None, 8),
        ("tokamax", "cpu", None, 8),
        ("tokamax", "gpu", None, 8),
        ("chunked", "cpu", 6, 6),
        ("chunked", "gpu", 8, 8),
        ("one_pass", "cpu", 6, 6),
        ("chunked", "cpu", None, None),  # older records have no plan
        ("a_variant_of_another_version", "cpu", None, None),
        ("floor", "cpu", None, None),
        ("stream", "cpu", None, None),
    ],
)
def test_operations_are_those_of_the_plan_or_what_the_loss_is_known_to_do(
    timed, yardsticks, variant, device, planned, nvd
):
    record = timed(variant, 150, nvd=planned, device=device)
    found = split(record, ceilings(yardsticks(device=device)))
    assert (found and found.nvd) == nvd


@pytest.mark.parametrize(
    ("step_ms", "bound"), [(150, "matmuls"), (199, "matmuls"), (201, "passes")]
)
def test_what_takes_more_than_half_bounds_the_step(timed, yardsticks, tmp_path, step_ms, bound):
    (row,) = step_rows([*yardsticks(), timed("standard", step_ms)], tmp_path)
    assert row["bound by"] == bound


@pytest.mark.parametrize(
    ("step_ms", "matmuls", "rest_ms"), [(80, "125", "-20.0"), (100, "100", "0")]
)
def test_step_that_leaves_nothing(timed, yardsticks, tmp_path, step_ms, matmuls, rest_ms):
    section = roofline_section([*yardsticks(), timed("standard", step_ms)], tmp_path)
    (row,) = table(section, "Where the time goes")
    assert (row["matmuls %"], row["rest ms"], row["bound by"]) == (matmuls, rest_ms, "matmuls")
    assert row["rest B/logit"] == "\u2013"
    assert (MORE_THAN_ALL_NOTE in section.notes) == (step_ms < 100)
    assert METHOD_NOTE in section.notes


def test_yardsticks_that_ran_twice_have_all_their_samples(timed, tmp_path):
    records = [
        *(timed("floor", *ms, case_id=str(ms)) for ms in ((90, 100), (100, 140))),
        *(timed("stream", *ms, case_id=f"stream {ms}") for ms in ((4, 4), (5,))),
    ]
    (device,) = device_rows(records, tmp_path)
    assert (device["floor ms"], device["floor ± %"]) == ("100", "40.0")
    assert (device["stream ms"], device["stream ± %"]) == ("4.00", "25.0")
