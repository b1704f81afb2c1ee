"""A whole run: both frameworks, every variant, the records, the report."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from tests.harness.conftest import ROOT, TINY, Finished


def test_run_leaves_records_tables_plots_and_report(run_harness: Callable[..., Finished]) -> None:
    done = run_harness(*TINY, "--vocab_sizes=96,200", "--vocab_chunk=50", "--ignored_fraction=0.25")
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
        assert memory["peak_bytes"] == memory["inputs_bytes"] + memory["additional_bytes"]
        assert memory["additional_bytes"] == memory["gradients_bytes"] + memory["workspace_bytes"]
        assert memory["inputs_bytes"] == 4 * (32 * 8 + record["vocab_size"] * 8 + 32)
        assert memory["probe"] in ("torch allocator events", "xla buffer assignment")
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
    assert written >= {
        "records.jsonl", "summary.md", "report.html", "peak_memory.png",
        "additional_memory.png", "step_time.png", "time_memory_tradeoff.png",
    }  # fmt: skip
    assert "report.html" in done.stdout
    assert "x floor" in (done.directory / "summary.md").read_text()


def test_parent_loads_no_framework_and_a_worker_loads_one(
    run_harness: Callable[..., Finished],
) -> None:
    target = "tests.harness.broken_losses:refusing_company"
    done = run_harness(
        *TINY, "--framework=torch", "--variants=alone,chunked", variants={"alone": target}
    )
    assert done.status == 0, done.stdout + done.stderr
    assert [record["status"] for record in done.records] == ["ok", "ok"]


def test_importing_the_harness_loads_no_framework() -> None:
    code = "import sys, harness.run; sys.exit(bool({'jax', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
