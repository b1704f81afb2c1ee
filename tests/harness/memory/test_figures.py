"""The memory of a record: the words, and what every probe there is has read.

What the probes read of real steps is in tests/harness/test_end_to_end.py.
"""

from __future__ import annotations

from harness.memory.figures import MemoryFigures, Reading


def test_the_first_reading_counts() -> None:
    figures = MemoryFigures(
        inputs_bytes=100, gradients_bytes=30, readings=(Reading("a", 50), Reading("b", 55))
    )
    found = figures.to_json(Reading("c", 60))
    assert found == {
        "inputs_bytes": 100,
        "gradients_bytes": 30,
        "peak_bytes": 150,
        "additional_bytes": 50,
        "workspace_bytes": 20,
        "reserved_bytes": None,
        "host_rss_bytes": 60,
        "probe": "a",
        "readings": [
            {"probe": "a", "additional_bytes": 50},
            {"probe": "b", "additional_bytes": 55},
            {"probe": "c", "additional_bytes": 60},
        ],
        "xla": None,
    }
    without = figures.to_json(None)
    assert without["host_rss_bytes"] is None
    assert without["readings"] == found["readings"][:2]
