"""How often noise is taken for a slowdown, and a slowdown for noise.

Runs of 50 cases with five steps each, and the floor of each: every process has a speed of
its own, every step jitters, and some are slow because something else ran.
"""

from __future__ import annotations

import numpy as np
import pytest

from harness.compare.judgement import judge
from harness.compare.matching import match
from tests.harness.compare.records import make_record
from tests.tables import slow

CASES, STEPS, RUNS = 50, 5, 20


def simulated_run(draw: np.random.Generator, speed: float, slow_share: float) -> list[dict]:
    """The floor of each shape takes 1 s, and the case beside it `speed` times as long."""
    records = []
    for vocab_size in range(1, CASES + 1):
        for variant, factor in (("floor", 1.0), ("chunked", speed)):
            steps_s = factor * np.exp(draw.normal(0, 0.015) + draw.normal(0, 0.015, STEPS))
            steps_s *= 1 + (draw.random(STEPS) < slow_share) * draw.exponential(0.2, STEPS)
            records.append(
                make_record(str(vocab_size), variant=variant, vocab_size=vocab_size, step_s=steps_s)
            )
    return records


def share_called_slower(
    seed: int, *, slowdown: float = 1.0, drift: float = 1.0, slow_share: float = 0.1
) -> float:
    draw = np.random.default_rng(seed)
    verdicts = []
    for _ in range(RUNS):
        old = simulated_run(draw, 1.0, slow_share)
        new = [slowed(record, drift) for record in simulated_run(draw, slowdown, slow_share)]
        verdicts += [judge(pair, threshold_percent=5) for pair in match(old, new).pairs]
    assert len(verdicts) == RUNS * CASES
    slower = [any(change.kind == "slower" for change in each.changes) for each in verdicts]
    return sum(slower) / len(slower)


def slowed(record: dict, drift: float) -> dict:
    return record | {"timing": {"step_s": [drift * s for s in record["timing"]["step_s"]]}}


@pytest.mark.parametrize("drift", [1.0, 1.2, 0.8])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=slow)])
def test_a_false_alarm_is_rare(seed, drift):
    assert share_called_slower(seed, drift=drift) <= 0.003


@pytest.mark.parametrize(
    ("slowdown", "slow_share", "least"), [(1.15, 0.0, 0.95), (1.15, 0.1, 0.6), (1.3, 0.1, 0.8)]
)
def test_a_slowdown_is_found(slowdown, slow_share, least):
    assert share_called_slower(0, slowdown=slowdown, slow_share=slow_share) >= least
