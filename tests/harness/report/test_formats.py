"""How figures are written."""

from __future__ import annotations

import pytest

from harness.report import formats
from harness.report.naming import listed, vocabulary_labels


@pytest.mark.parametrize(
    ("write", "value", "expected"),
    [
        (formats.number, None, formats.MISSING),
        (formats.number, 0, "0"),
        (formats.number, 1234.5, "1,234"),
        (formats.number, 45.67, "45.7"),
        (formats.number, 0.0123, "0.012"),
        (formats.number, float("nan"), "nan"),
        (formats.milliseconds, 0.25, "250"),
        (formats.mebibytes, 3 * 1024**2, "3.00"),
        (formats.fraction, 1 / 57, "1/57"),
        (formats.fraction, 0.4, "1/2.5"),
        (formats.fraction, 1.0, "1"),
        (formats.fraction, 0.83, "0.83"),
        (formats.fraction, None, formats.MISSING),
        (formats.size, 1536 * 1024**2, "1.5 GiB"),
        (formats.size, 640 * 1024, "640 KiB"),
        (formats.duration, 0.85, "850 ms"),
        (formats.duration, 1.0 - 1e-12, "1 s"),
        (formats.times, 12.3, "12x"),
        (formats.times, 1.24, "1.2x"),
    ],
)
def test_figures(write, value, expected):
    assert write(value) == expected


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([8192, 32768], (["8k", "32k"], "1k = 1024")),
        ([10000, 25000], (["10k", "25k"], "1k = 1000")),
        ([8192, 50257], (["8,192", "50,257"], "")),
    ],
)
def test_vocabulary_labels_say_what_their_k_is(sizes, expected):
    assert vocabulary_labels(sizes) == expected


def test_listed():
    assert [listed(list(text)) for text in ("", "a", "ab", "abc")] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
