"""The memory of a record: the words, and what every probe there is has read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.memory.figures import MemoryFigures, Reading
from tests.harness.conftest import Finished

MIB = 2**20
FIRST = {"torch": "torch allocator events", "jax": "xla buffer assignment"}
# XLA's CPU kernels pack operands in room that no buffer is assigned for, more in some runs.
KERNEL_ROOM_BYTES = {"torch": 0, "jax": 8 * MIB}
HOST = "kernel resident high-water mark"


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


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_run_records_both_readings(run_harness: Callable[..., Finished], framework: str) -> None:
    """[N, V] in float32 takes 32 MiB: three of them in PyTorch, two and the gradients in JAX."""
    pytest.importorskip(framework)
    done = run_harness(
        f"--framework={framework}", "--variants=standard,chunked", "--batch_size=2",
        "--seq_len=512", "--hidden_dim=128", "--vocab_sizes=8192", "--repeats=1", "--warmup=0",
    )  # fmt: skip
    assert done.status == 0, done.stdout + done.stderr
    memory = {record["variant"]: record["memory"] for record in done.records}
    for found in memory.values():
        _check_sums(found)
        first, second = found["readings"]
        assert (first["probe"], second["probe"]) == (FIRST[framework], HOST)
        assert found["additional_bytes"] == first["additional_bytes"]
        assert found["host_rss_bytes"] == second["additional_bytes"]
        apart = second["additional_bytes"] - first["additional_bytes"]
        near = max(0.05 * first["additional_bytes"], 8 * MIB)
        assert -near < apart < near + KERNEL_ROOM_BYTES[framework]
        assert found["inputs_bytes"] == 4 * (1024 * 128 + 8192 * 128 + 1024)
        assert found["gradients_bytes"] == 4 * (1024 * 128 + 8192 * 128 + 1)
    gradients_bytes = memory["standard"]["gradients_bytes"]
    logits_bytes = {"torch": 96 * MIB, "jax": 64 * MIB + gradients_bytes}[framework]
    assert memory["standard"]["additional_bytes"] == pytest.approx(logits_bytes, rel=0.01)
    assert memory["chunked"]["additional_bytes"] < logits_bytes / 2


def _check_sums(memory: dict[str, Any]) -> None:
    assert memory["probe"] == memory["readings"][0]["probe"]
    assert memory["peak_bytes"] == memory["inputs_bytes"] + memory["additional_bytes"]
    assert memory["additional_bytes"] == memory["gradients_bytes"] + memory["workspace_bytes"]
    if (xla := memory["xla"]) is not None:
        assert memory["peak_bytes"] == xla["argument"] + xla["output"] + xla["temp"] - xla["alias"]
