"""Which records make the section, and where a report shows it."""

from __future__ import annotations

import re

import pytest

from harness.report import write_report
from harness.report.roofline_section import TITLE, roofline_section
from tests.harness.report.roofline.sections import device_rows, step_rows


@pytest.mark.parametrize("yardstick", ["floor", "stream"])
@pytest.mark.parametrize("how", ["missing", "failed", "untimed", "elsewhere"])
def test_section_needs_both_yardsticks(timed, yardsticks, tmp_path, yardstick, how):
    records = [*yardsticks(), timed("standard", 150)]
    assert not roofline_section(records, tmp_path).is_empty
    (tmp_path / "roofline.png").unlink()
    others = [each for each in records if each["variant"] != yardstick]
    (one,) = [each for each in records if each["variant"] == yardstick]
    changed = {
        "missing": [],
        "failed": [one | {"status": "error"}],
        "untimed": [one | {"timing": None}],
        "elsewhere": [one | {"framework": "jax"}, one | {"dtype": "float16"}],
    }[how]
    assert roofline_section([*others, *changed], tmp_path).is_empty
    assert not list(tmp_path.iterdir())


def test_section_of_yardsticks_alone(yardsticks, tmp_path):
    section = roofline_section(yardsticks(), tmp_path)
    assert [each.title for each in section.tables] == ["What the device gives"]
    assert section.plots == ()


def test_rows_are_losses_of_a_sweep_that_ended_well(timed, yardsticks, tmp_path):
    records = [
        *yardsticks(),
        timed("standard", 150),
        timed("chunked", 160, nvd=6, mode="anatomy"),
        timed("compiled", 10) | {"status": "mismatch"},
        timed("liger", 10, status="oom"),
        timed("one_pass", 120, nvd=6, framework="jax"),
    ]
    assert [row["variant"] for row in step_rows(records, tmp_path)] == ["standard"]


def test_conditions_that_differ_are_columns(timed, yardsticks, tmp_path):
    records = [
        record
        for dtype in ("float32", "bfloat16")
        for record in (*yardsticks(dtype=dtype), timed("standard", 150, dtype=dtype))
    ]
    for rows in (device_rows(records, tmp_path), step_rows(records, tmp_path)):
        assert [row["dtype"] for row in rows] == ["bfloat16", "float32"]
        assert "N" not in rows[0]
    assert {path.name for path in tmp_path.iterdir()} == {
        "roofline_float32.png", "roofline_bfloat16.png"
    }  # fmt: skip


def test_both_forms_have_the_section_after_the_sweep_and_its_words(sweep, tmp_path):
    variants = ("standard", "floor", "stream")
    for chosen in (variants, variants[:2]):
        report = write_report(sweep(variants=chosen), tmp_path, "python -m harness.run")
        for text, heading in (
            (report.read_text(), r"<h2>(.*)</h2>"),
            ((tmp_path / "summary.md").read_text(), r"(?m)^## (.*)$"),
        ):
            is_there = chosen == variants
            headings = re.findall(heading, text)
            assert headings[:2] == ["Variants by shape", TITLE if is_there else "Environment"]
            assert ("roofline" in text or "Where the time of a step goes" in text) == is_there
            for word in ("stream", "NVD", "B/logit", "bound by"):
                assert (f"**{word}**" in text or f"<dt>{word}</dt>" in text) == is_there
