"""How far apart two probes of one figure are."""

from __future__ import annotations

import pytest

from harness.memory.host_rss import PROBE as HOST_RSS
from harness.report.readings import Apart, apart, probes_apart_notes

MIB = 2**20
FIRST, OTHER, THIRD = "xla buffer assignment", "device statistics", "another"


def reading(probe, additional_bytes):
    return {"probe": probe, "additional_bytes": additional_bytes}


def old_memory(additional_bytes, host_rss_bytes):
    return {
        "probe": FIRST,
        "additional_bytes": additional_bytes,
        "host_rss_bytes": host_rss_bytes,
    }


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (None, []),
        ({}, []),
        (old_memory(200, None), []),
        (old_memory(0, 100), []),
        (old_memory(200, 203), [Apart(FIRST, HOST_RSS, 3, 1.5)]),
        (old_memory(200, 0), [Apart(FIRST, HOST_RSS, -200, -100.0)]),
        ({"readings": [reading(FIRST, 200)]}, []),
        ({"readings": [reading(FIRST, 200), reading(OTHER, None)]}, []),
        ({"readings": [reading(FIRST, None), reading(OTHER, 200)]}, []),
        (
            {"readings": [reading(FIRST, 200), reading(OTHER, 198), reading(THIRD, 210)]},
            [Apart(FIRST, OTHER, -2, -1.0), Apart(FIRST, THIRD, 10, 5.0)],
        ),
        # Readings say all that there is, also where the older field stands beside them.
        ({"readings": [reading(FIRST, 200)]} | old_memory(200, 300), []),
    ],
)
def test_every_other_probe_is_held_against_the_first(make_record, memory, expected):
    found = apart(make_record(memory=memory))
    assert [(each.probe, each.other_probe, each.difference_bytes) for each in found] == [
        (each.probe, each.other_probe, each.difference_bytes) for each in expected
    ]
    assert [each.percent for each in found] == pytest.approx([each.percent for each in expected])


@pytest.mark.parametrize(
    ("mebibytes", "other_mebibytes", "is_small"),
    [(1000, 1040, True), (10, 17, True), (10, 3, True), (1000, 1060, False), (1000, 940, False)],
    ids=["in percent", "in bytes", "less", "more in both", "less in both"],
)
def test_small_is_in_percent_or_in_bytes(make_record, mebibytes, other_mebibytes, is_small):
    memory = old_memory(mebibytes * MIB, other_mebibytes * MIB)
    (found,) = apart(make_record(memory=memory))
    assert found.is_small == is_small


def test_notes_sum_up_each_framework(make_record):
    records = [
        *(make_record("jax", memory=old_memory(100 * MIB, rss * MIB)) for rss in (98, 134, 101)),
        make_record("torch", memory={"readings": [reading(OTHER, 1000), reading(THIRD, 1020)]}),
        make_record("torch", memory=None),
    ]
    assert probes_apart_notes(records) == [
        "Two probes: in JAX the kernel resident high-water mark differs from xla buffer "
        "assignment by -2.0 to +34.0 MiB (-2.0 to +34.0 %); 2 of 3 cases are within 5 % or 8 MiB.",
        "Two probes: in PyTorch the another differs from device statistics by +0.0 MiB (+2.0 %); "
        "1 of 1 case is within 5 % or 8 MiB.",
    ]
    assert probes_apart_notes([make_record(memory=None)]) == []
