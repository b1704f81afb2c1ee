"""Records with chosen times, beside yardsticks that make round figures.

N = 2048, D = 512, V = 8192 in float32: a floor of 100 ms does 0.515 TFLOP/s, a stream of 4 ms
moves 8.39 GB/s, so that a rest of 50 ms is 25 bytes for each of the 16.8 million logits.
"""

from __future__ import annotations

import pytest

NVD = 2048 * 8192 * 512


@pytest.fixture
def timed(make_record):
    """A record whose steps took so many milliseconds; `nvd` is what its plan says."""

    def make(variant, *step_ms, framework="torch", vocab_size=8192, nvd=None, **changes):
        record = make_record(framework, variant, vocab_size, **changes)
        if record["timing"]:
            record["timing"]["step_s"] = [each / 1e3 for each in step_ms]
        size = NVD * vocab_size // 8192
        return record | {"plan": None if nvd is None else {"flops": nvd * size}}

    return make


@pytest.fixture
def yardsticks(timed):
    def make(floor_ms=100.0, stream_ms=4.0, **changes):
        return [timed("floor", floor_ms, **changes), timed("stream", stream_ms, **changes)]

    return make


@pytest.fixture
def both(timed, yardsticks):
    """One variant in both frameworks: its steps in ms, the floors, what the plans say."""

    def make(torch, jax, variant="standard", floors=(100, 100), nvd=(None, None)):
        return [
            record
            for framework, steps_ms, floor_ms, planned in zip(
                ("torch", "jax"), (torch, jax), floors, nvd, strict=True
            )
            for record in (
                *yardsticks(floor_ms=floor_ms, framework=framework),
                timed(variant, *steps_ms, framework=framework, nvd=planned),
            )
        ]

    return make
