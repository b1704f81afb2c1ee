"""How fast the machine multiplies: the fastest of a few tries, and no long wait for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.prediction import speed


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    speed.flops_per_s.cache_clear()
    yield
    speed.flops_per_s.cache_clear()


@pytest.mark.parametrize(
    ("tries_s", "count", "fastest_s"),
    [
        ([0.04, 0.02, 0.03, 0.05, 0.06], 5, 0.02),
        ([0.1, 0.08, 0.09], 3, 0.08),
        ([0.7], 1, 0.7),
    ],
)
def test_tries_end_when_they_have_taken_long_enough(
    monkeypatch: pytest.MonkeyPatch, tries_s: list[float], count: int, fastest_s: float
) -> None:
    left = iter(tries_s)
    monkeypatch.setattr(speed, "_seconds", lambda matrix: next(left))
    flops = 2 * 2048**3
    assert speed.flops_per_s("cpu", "float32") == pytest.approx(flops / fastest_s)
    assert len(list(left)) == len(tries_s) - count
    assert speed.flops_per_s("cpu", "float32") == pytest.approx(flops / fastest_s), "and is kept"
