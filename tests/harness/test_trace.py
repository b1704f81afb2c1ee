"""--trace leaves a profile of one step of each case, in the framework's own format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from harness.cases import Measurement, Shape, make_case
from harness.scheduler import run_case
from tests.harness.conftest import TINY, RunHarness


def test_trace_of_each_case(run_here: RunHarness) -> None:
    done = run_here(*TINY, "--trace", "--variants=chunked,floor")
    assert done.status == 0, done.stdout + done.stderr
    assert done.directory is not None
    assert len(done.records) == 4
    for record in done.records:
        assert record["trace"] == {"directory": record["case_id"], "error": None}
        directory = done.directory / "traces" / record["case_id"]
        if record["framework"] == "jax":
            (profile,) = directory.rglob("*.xplane.pb")  # what XProf reads
            assert profile.stat().st_size > 0
            continue
        trace = json.loads(gzip.decompress((directory / "trace.json.gz").read_bytes()))
        names = {event.get("name") for event in trace["traceEvents"]}
        assert "aten::mm" in names or "aten::addmm" in names
        assert "[memory]" in names


@pytest.mark.usefixtures("workers_here")
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_trace_that_cannot_be_written_costs_nothing_else(tmp_path: Path, framework: str) -> None:
    traces = tmp_path / "traces"
    traces.touch()  # a file where the folders are to be
    shape = Shape(
        batch_size=2, seq_len=16, hidden_dim=8, vocab_size=96, dtype="float32",
        ignored_fraction=0.0, seed=0,
    )  # fmt: skip
    measurement = Measurement(
        warmup=0, repeats=1, timeout_s=60.0, device="cpu", memory_limit_gib=None, trace=True
    )
    case = make_case(framework, "chunked", shape, measurement, {})
    record = run_case(case, "run", {"versions": {}}, None, traces)
    assert record["status"] == "ok"
    assert record["memory"]["peak_bytes"] > 0
    assert record["trace"]["directory"] is None
    assert record["trace"]["error"]


def test_no_trace_unless_asked_for(run_here: RunHarness) -> None:
    done = run_here(*TINY, "--framework=torch", "--variants=chunked")
    assert done.directory is not None
    assert not (done.directory / "traces").exists()
    assert done.records[0]["trace"] is None
