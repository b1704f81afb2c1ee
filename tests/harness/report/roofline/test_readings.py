"""The sentences: each is worked out from the figures."""

from __future__ import annotations

import re

import pytest

from harness.report.roofline_readings import readings
from harness.report.roofline_section import roofline_section
from tests.harness.report.roofline.sections import steps_of


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        pytest.param(
            {"torch": (150,), "jax": (200,), "floors": (100, 150)},
            "standard is faster in PyTorch, 150 ms against JAX's 200, by its matmuls. PyTorch's "
            "matmuls take 50.0 ms less (0.52 against 0.34 TFLOP/s), its rest as long (25.0 "
            "bytes a logit at 8.39 GB/s against 25.0 at 8.39).",
            id="matmuls",
        ),
        pytest.param(
            {"torch": (200,), "jax": (150,), "floors": (100, 112)},
            "standard is faster in JAX, 150 ms against PyTorch's 200, by its rest. JAX's matmuls "
            "take 12.0 ms more (0.46 against 0.52 TFLOP/s), its rest 62.0 ms less (19.0 bytes a "
            "logit at 8.39 GB/s against 50.0 at 8.39).",
            id="rest",
        ),
        pytest.param(
            {"torch": (150,), "jax": (190,), "floors": (100, 120)},
            "standard is faster in PyTorch, 150 ms against JAX's 190, by its matmuls and its rest. "
            "PyTorch's matmuls take 20.0 ms less (0.52 against 0.43 TFLOP/s), its rest 20.0 ms "
            "less (25.0 bytes a logit at 8.39 GB/s against 35.0 at 8.39).",
            id="both",
        ),
        pytest.param(
            {"torch": (150, 160, 155), "jax": (158, 165, 170)},
            "standard is as fast in PyTorch, 155 ms against JAX's 165, within the spread. "
            "PyTorch's matmuls take as long (0.52 against 0.52 TFLOP/s), its rest 10.0 ms less "
            "(27.5 bytes a logit at 8.39 GB/s against 32.5 at 8.39).",
            id="within the spread",
        ),
        pytest.param(
            {"torch": (150, 155, 156), "jax": (158, 165, 170)},
            "standard is faster in PyTorch, 155 ms against JAX's 165, by its rest. "
            "PyTorch's matmuls take as long (0.52 against 0.52 TFLOP/s), its rest 10.0 ms less "
            "(27.5 bytes a logit at 8.39 GB/s against 32.5 at 8.39).",
            id="beyond the spread",
        ),
        pytest.param(
            {"variant": "chunked", "torch": (160,), "jax": (90,), "nvd": (8, 6)},
            "chunked is faster in JAX, 90.0 ms against PyTorch's 160, by its matmuls and its rest. "
            "JAX's matmuls take 33.3 ms less (6 NVD at 0.52 TFLOP/s against 8 at 0.52), its rest "
            "36.7 ms less (none against 13.3 bytes a logit at 8.39 GB/s).",
            id="other operations, nothing left",
        ),
        pytest.param(
            {"torch": (110,), "jax": (150,), "floors": (100, 160)},
            "standard is faster in PyTorch, 110 ms against JAX's 150, by its matmuls. PyTorch's "
            "matmuls take 60.0 ms less (0.52 against 0.32 TFLOP/s), its rest 20.0 ms more (5.00 "
            "bytes a logit at 8.39 GB/s against none).",
            id="nothing left in the slower one",
        ),
        pytest.param(
            {"torch": (90,), "jax": (78,)},
            "standard is faster in JAX, 78.0 ms against PyTorch's 90.0, by its rest. JAX's matmuls "
            "take as long (0.52 against 0.52 TFLOP/s), its rest 12.0 ms less.",
            id="nothing left in either",
        ),
    ],
)
def test_reading_says_which_framework_is_faster_and_by_what(both, made, sentence):
    assert readings(steps_of(both(**made))) == [f"V = 8,192: {sentence}"]


def test_reading_for_each_shape_and_variant(timed, yardsticks, tmp_path):
    records = [
        record
        for dtype in ("float32", "bfloat16")
        for vocab_size in (8192, 16384)
        for framework in ("torch", "jax")
        for record in (
            *yardsticks(dtype=dtype, vocab_size=vocab_size, framework=framework),
            *(
                timed(variant, 150, dtype=dtype, vocab_size=vocab_size, framework=framework,
                      nvd=planned)
                for variant, planned in (("standard", None), ("chunked", 6), ("two_pass", 8))
            ),
        )
    ]  # fmt: skip
    found = readings(steps_of(records))
    assert {each.partition(": ")[0] for each in found} == {
        f"{dtype}, V = {size}" for dtype in ("float32", "bfloat16") for size in ("8,192", "16,384")
    }
    assert all(re.findall(r"(\w+) is as fast", each) == ["standard", "chunked"] for each in found)
    assert set(found) <= set(roofline_section(records, tmp_path).notes)
    assert readings(steps_of([r for r in records if r["framework"] == "jax"])) == []


def test_runs_are_not_read_against_each_other(both):
    records = [each | {"run": each["framework"]} for each in both(torch=(150,), jax=(200,))]
    assert len(steps_of(records)) == 2
    assert readings(steps_of(records)) == []


def test_captions_speak_of_standard_and_chunked_where_they_are(timed, yardsticks, tmp_path):
    records = [*yardsticks(), timed("compiled", 150)]
    for more, said in (
        ([], "67 % of compiled in PyTorch"),
        ([timed("standard", 200), timed("chunked", 125, nvd=6)], "50 % of standard and 80 % of"),
    ):
        (plot,) = roofline_section([*records, *more], tmp_path).plots
        assert said in plot.caption
