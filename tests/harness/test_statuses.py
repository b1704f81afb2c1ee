"""Every status, provoked for real, costs its own case and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import sweep
from harness.cases import Shape
from tests.harness.conftest import TINY, Finished, RunHarness, time_is_up_when

LOSSES = "tests.harness.broken_losses"


def check(done: Finished, variant: str, status: str, message: str) -> None:
    """The record of the variant and the table say what happened; chunked has run beside it."""
    by_variant = {record["variant"]: record for record in done.records}
    assert by_variant[variant]["status"] == status
    assert message in by_variant[variant]["error"]["message"]
    assert message in done.stdout
    assert by_variant["chunked"]["status"] == "ok"


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        (f"{LOSSES}:wrong", "mismatch", "loss_error is 1.0"),
        (f"{LOSSES}:not_a_number", "mismatch", "loss_error is nan"),
        (f"{LOSSES}:raising", "error", "this loss [does] not work"),
        (f"{LOSSES}:refused_memory", "oom", "can't allocate memory"),
        (f"{LOSSES}:refused_memory_by_python", "oom", "no room"),
        ("torch_impl.no_such_module:loss", "error", "No module named"),
        ("no_such_package:loss", "unavailable", "no_such_package, which is not installed"),
    ],
)
def test_loss_that_fails(run_here: RunHarness, target: str, status: str, message: str) -> None:
    done = run_here(
        *TINY, "--framework=torch", "--variants=broken,chunked", variants={"broken": target}
    )
    check(done, "broken", status, message)
    assert done.status == (0 if status in ("oom", "unavailable") else 1)


DEATHS = {
    "killed": ("error", "killed by SIGKILL"),
    "out_of_memory_in_cpp": ("oom", "bad_alloc"),
    "leaving": ("error", "before it had finished"),
}


def test_loss_that_ends_its_process(run_parent_here: RunHarness) -> None:
    done = run_parent_here(
        *TINY,
        "--framework=torch",
        f"--variants={','.join(DEATHS)},chunked",
        variants={name: f"{LOSSES}:{name}" for name in DEATHS},
    )
    for name, (status, message) in DEATHS.items():
        check(done, name, status, message)
    assert done.status == 1


def test_timeout(
    run_parent_here: RunHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeping = tmp_path / "sleeping"
    monkeypatch.setenv("SLEEPING", str(sleeping))
    time_is_up_when(sleeping.exists, monkeypatch)
    done = run_parent_here(
        *TINY, "--framework=torch", "--variants=slow", "--timeout_s=100",
        variants={"slow": f"{LOSSES}:sleeping"},
    )  # fmt: skip
    assert done.status == 1
    (record,) = done.records
    assert record["status"] == "timeout"
    assert record["error"]["message"] == "stopped after 100 s"
    assert record["environment"]["versions"]["torch"]  # what was known before is kept


def test_out_of_memory_is_a_result(run_parent_here: RunHarness) -> None:
    """[N, V] logits of 32 MiB, twice or three times, do not fit into 50; the chunked loss does."""
    done = run_parent_here(
        "--variants=standard,chunked", "--memory_limit_gib=0.05", "--batch_size=2",
        "--seq_len=256", "--hidden_dim=32", "--vocab_sizes=16384", "--repeats=1", "--warmup=0",
    )  # fmt: skip
    status = {(record["framework"], record["variant"]): record["status"] for record in done.records}
    assert status == {
        (framework, variant): "oom" if variant == "standard" else "ok"
        for framework in ("torch", "jax")
        for variant in ("standard", "chunked")
    }, done.stdout
    assert done.status == 0
    for record in done.records:
        if record["variant"] == "standard":
            assert record["error"]["message"]
            assert record["memory"] is None  # not measured is null, not 0
    assert done.directory is not None
    assert "out of memory" in (done.directory / "summary.md").read_text()


def test_missing_gpu_is_unavailable(run_here: RunHarness) -> None:
    """The suite hides a GPU from both frameworks (tests/conftest.py)."""
    done = run_here(*TINY, "--device=gpu", "--variants=chunked")
    assert len(done.records) == 2
    assert {record["status"] for record in done.records} == {"unavailable"}
    assert all("device=gpu" in record["error"]["message"] for record in done.records)
    assert done.status == 0


def test_reference_that_fails_costs_its_cases_and_no_others(
    run_here: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_reference = sweep.run_reference

    def fail_for_the_large_shape(
        shape: Shape, device: str, directory: Path, timeout_s: float
    ) -> None:
        if shape.vocab_size == 100:
            raise RuntimeError("reference: no room")
        run_reference(shape, device, directory, timeout_s)

    monkeypatch.setattr(sweep, "run_reference", fail_for_the_large_shape)
    done = run_here(*TINY, "--framework=torch", "--variants=chunked,floor", "--vocab_sizes=96,100")
    records = {(record["variant"], record["vocab_size"]): record for record in done.records}
    assert records["chunked", 96]["status"] == "ok"
    assert records["floor", 100]["status"] == "ok"
    unchecked = records["chunked", 100]
    assert unchecked["status"] == "error"
    assert unchecked["error"] == {"type": "NoReference", "message": "reference: no room"}
    assert len(unchecked["timing"]["step_s"]) == 2  # measured, if not checked
    assert unchecked["memory"]["peak_bytes"] > 0
    assert done.status == 1
