"""How far apart two probes of one figure are."""

from __future__ import annotations

import pytest

from harness.report.readings import HOST_RSS, Apart, apart, probes_apart_notes

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
        (old_memory(200, 203), [Apart(FIRST, HOST_RSS, 1.5)]),
        (old_memory(200, 0), [Apart(FIRST, HOST_RSS, -100.0)]),
        ({"readings": [reading(FIRST, 200)]}, []),
        ({"readings": [reading(FIRST, 200), reading(OTHER, None)]}, []),
        ({"readings": [reading(FIRST, None), reading(OTHER, 200)]}, []),
        (
            {"readings": [reading(FIRST, 200), reading(OTHER, 198), reading(THIRD, 210)]},
            [Apart(FIRST, OTHER, -1.0), Apart(FIRST, THIRD, 5.0)],
        ),
        # Readings say all that there is, also where the older field stands beside them.
        ({"readings": [reading(FIRST, 200)]} | old_memory(200, 300), []),
    ],
)
def test_every_other_probe_is_held_against_the_first(make_record, memory, expected):
    found = apart(make_record(memory=memory))
    assert [(each.probe, each.other_probe) for each in found] == [
        (each.probe, each.other_probe) for each in expected
    ]
    assert [each.percent for each in found] == pytest.approx([each.percent for each in expected])


def test_notes_sum_up_each_framework(make_record):
    records = [
        *(make_record("jax", memory=old_memory(1000, rss)) for rss in (988, 1034, 1001)),
        make_record("torch", memory={"readings": [reading(OTHER, 1000), reading(THIRD, 1020)]}),
        make_record("torch", memory=None),
    ]
    assert probes_apart_notes(records) == [
        "Two probes: in JAX the kernel resident high-water mark is within -1.2 to +3.4 % of "
        "xla buffer assignment, half of 3 cases within 1.2 %.",
        "Two probes: in PyTorch the another is within +2.0 % of device statistics.",
    ]
    assert probes_apart_notes([make_record(memory=None)]) == []
