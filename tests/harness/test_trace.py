"""--trace leaves a profile of one step of each case, in the framework's own format."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

from tests.harness.conftest import TINY, Finished


def test_trace_of_each_case(run_harness: Callable[..., Finished]) -> None:
    done = run_harness(*TINY, "--trace", "--variants=chunked,floor")
    assert done.status == 0, done.stdout + done.stderr
    assert done.directory is not None
    assert len(done.records) == 4
    for record in done.records:
        assert record["trace"] == record["case_id"]
        directory = done.directory / "traces" / record["trace"]
        if record["framework"] == "jax":
            (profile,) = directory.rglob("*.xplane.pb")  # what XProf reads
            assert profile.stat().st_size > 0
            continue
        trace = json.loads(gzip.decompress((directory / "trace.json.gz").read_bytes()))
        names = {event.get("name") for event in trace["traceEvents"]}
        assert "aten::mm" in names or "aten::addmm" in names
        assert "[memory]" in names


def test_no_trace_unless_asked_for(run_harness: Callable[..., Finished]) -> None:
    done = run_harness(*TINY, "--framework=torch", "--variants=chunked")
    assert done.directory is not None
    assert not (done.directory / "traces").exists()
    assert done.records[0]["trace"] is None
