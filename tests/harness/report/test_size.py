"""A large run: its report has no more pictures than one can look at."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.report import write_report
from harness.report.measures import conditions
from harness.report.pictured import MOST, pictured, pictured_note
from harness.report.series import by_conditions

VARIANTS = ("standard", "chunked", "two_pass", "one_pass", "compiled", "liger", "floor")
SIZES = (8192, 16384, 32768, 65536, 131072, 262144)


@pytest.fixture
def many_records(sweep):
    records = [
        record
        for seq_len in (256, 512, 1024, 2048)
        for dtype in ("float32", "bfloat16", "float16")
        for record in sweep(
            SIZES,
            variants=VARIANTS,
            seq_len=seq_len,
            dtype=dtype,
            out_of_memory=[("torch", "standard", 262144)],
        )
    ]
    assert len(records) > 1000
    return records


def test_report_of_a_thousand_records_has_few_pictures(many_records, tmp_path):
    path = write_report(many_records, tmp_path, "python -m harness.run")
    text = path.read_text(encoding="utf-8")
    assert text.count("<img") == 4 * MOST
    assert f"Pictures: {MOST} of the 12 combinations" in text
    assert "Pictures: " in (tmp_path / "summary.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ({"a": (1, 2)}, {"a": 2}),
        ({"a": (1, 2, 3, 4, 5, 6, 7, 8)}, {"a": MOST}),
        ({"a": (1, 2, 3, 4, 5, 6, 7, 8), "b": (1, 2)}, {"a": MOST - 2, "b": 2}),
    ],
)
def test_each_run_has_its_turn(make_record, shapes, expected):
    groups = by_conditions(
        [make_record(run=run, seq_len=each) for run in shapes for each in shapes[run]]
    )
    chosen = pictured(groups)
    assert Counter(held.run for held in chosen) == expected
    assert chosen == [held for held in groups if held in chosen], "in the order of the records"
    assert bool(pictured_note(groups)) == (len(groups) > len(chosen))


def test_most_results_come_first(make_record):
    fewest = make_record(seq_len=1, status="oom")
    others = [make_record(seq_len=each) for each in range(2, MOST + 2)]
    assert conditions(fewest) not in pictured(by_conditions([fewest, *others]))
