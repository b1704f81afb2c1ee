"""A whole run: both frameworks, every variant, the records, the report."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.conftest import TINY, RunHarness
from tests.tables import optimized

pytestmark = optimized

MIB = 2**20
FIRST = {"torch": "torch allocator events", "jax": "xla buffer assignment"}
HOST = "kernel resident high-water mark"
# XLA's CPU kernels pack operands in room that no buffer is assigned for: here 2, 10, 14 or, where
# the matmuls of both gradients meet, 22 MiB, from run to run.
KERNEL_ROOM_BYTES = {"torch": 0, "jax": 16 * MIB}
VARIANTS = ("standard", "chunked")
PICTURES = ("peak_memory", "additional_memory", "step_time", "time_memory_tradeoff")


def check_sums(memory: dict[str, Any]) -> None:
    """What holds of the memory of every record."""
    assert memory["probe"] == memory["readings"][0]["probe"]
    assert memory["peak_bytes"] == memory["inputs_bytes"] + memory["additional_bytes"]
    assert memory["additional_bytes"] == memory["gradients_bytes"] + memory["workspace_bytes"]
    if (xla := memory["xla"]) is not None:
        assert memory["peak_bytes"] == xla["argument"] + xla["output"] + xla["temp"] - xla["alias"]


def test_run_leaves_records_tables_plots_and_report(run_here: RunHarness) -> None:
    done = run_here(*TINY, "--vocab_sizes=96,200", "--vocab_chunk=50", "--ignored_fraction=0.25")
    assert done.status == 0, done.stdout + done.stderr
    assert len(done.records) == 2 * 2 * 3
    assert {record["status"] for record in done.records} == {"ok"}
    for record in done.records:
        timing, memory, numerics = record["timing"], record["memory"], record["numerics"]
        assert len(timing["step_s"]) == 2
        assert min(timing["step_s"]) > 0
        assert (timing["compile_s"] is None) == (record["framework"] == "torch")
        assert record["environment"]["versions"][record["framework"]]
        assert record["options"]["ignored_fraction"] == 0.25
        if record["variant"] == "floor":
            assert memory is None
            assert numerics is None
            continue
        assert len(timing["forward_s"]) == 2
        check_sums(memory)
        assert memory["inputs_bytes"] == 4 * (32 * 8 + record["vocab_size"] * 8 + 32)
        assert memory["probe"] == FIRST[record["framework"]]
        assert memory["reserved_bytes"] is None  # a CPU has no such figure
        assert all(numerics[name] <= limit for name, limit in numerics["tolerance"].items())

    losses = {
        round(record["numerics"]["loss"], 4)
        for record in done.records
        if record["numerics"] and record["vocab_size"] == 96
    }
    assert len(losses) == 1  # the same arrays everywhere

    assert done.directory is not None
    written = {path.name for path in done.directory.iterdir()}
    assert written >= {"records.jsonl", "summary.md", "report.html"}
    assert written >= {f"{name}.png" for name in PICTURES}
    assert "report.html" in done.stdout
    assert "x floor" in (done.directory / "summary.md").read_text()


def test_run_as_a_user_starts_it(run_harness: RunHarness) -> None:
    """In processes, where resident memory is measured as well, and pictures are drawn.

    [N, V] in float32 takes 32 MiB: three of them in PyTorch, two and the gradients in JAX; and
    less than half of one in ours, without the gradients.
    """
    done = run_harness(
        f"--variants={','.join(VARIANTS)}", "--batch_size=2", "--seq_len=512", "--hidden_dim=128",
        "--vocab_sizes=8192", "--repeats=1", "--warmup=0",
    )  # fmt: skip
    assert done.status == 0, done.stdout + done.stderr
    memory_of = {(each["framework"], each["variant"]): each["memory"] for each in done.records}
    assert memory_of.keys() == {(each, variant) for each in FIRST for variant in VARIANTS}
    for (framework, variant), memory in memory_of.items():
        check_sums(memory)
        assert memory["inputs_bytes"] == 4 * (1024 * 128 + 8192 * 128 + 1024)
        assert memory["gradients_bytes"] == 4 * (1024 * 128 + 8192 * 128 + 1)
        if variant == "standard":
            expected = {"torch": 96 * MIB, "jax": 64 * MIB + memory["gradients_bytes"]}[framework]
            assert memory["additional_bytes"] == pytest.approx(expected, rel=0.01)
        else:
            assert memory["workspace_bytes"] < 16 * MIB
        first, second = memory["readings"]
        assert (first["probe"], second["probe"]) == (FIRST[framework], HOST)
        assert memory["additional_bytes"] == first["additional_bytes"]
        assert memory["host_rss_bytes"] == second["additional_bytes"]
        apart = second["additional_bytes"] - first["additional_bytes"]
        near = max(0.05 * first["additional_bytes"], 8 * MIB)
        assert -near < apart < near + KERNEL_ROOM_BYTES[framework]
    assert done.directory is not None
    for name in PICTURES:
        picture = (done.directory / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) > 10_000
    assert "report.html" in done.stdout


def test_anatomy_in_processes_that_load_one_framework_or_none(run_harness: RunHarness) -> None:
    """The parent loads none, or the status would be 70 (run_with.py)."""
    targets = {
        "torch": "tests.harness.broken_losses:refusing_company",
        "jax": "tests.harness.broken_jax_losses:refusing_company",
    }
    done = run_harness(
        *TINY[:-1], "--mode=anatomy", "--variants=alone", variants={"alone": targets}
    )
    assert done.status == 0, done.stdout + done.stderr
    assert [(record["framework"], record["status"]) for record in done.records] == [
        ("torch", "ok"), ("jax", "ok"),
    ]  # fmt: skip
    for record in done.records:
        anatomy = record["anatomy"]
        assert anatomy["peak_bytes"] == sum(part["size_bytes"] for part in anatomy["buffers"])
        assert record["timing"] is None
    assert done.directory is not None
    assert (done.directory / "anatomy_peak.png").stat().st_size > 10_000
    assert "One step:" in done.stdout
