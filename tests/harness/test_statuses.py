"""Every status, provoked for real, costs its own case and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.harness.conftest import TINY, Finished


@pytest.mark.parametrize(
    ("target", "status", "message"),
    [
        ("tests.harness.broken_losses:wrong", "mismatch", "loss_error is 1.0"),
        ("tests.harness.broken_losses:not_a_number", "mismatch", "loss_error is nan"),
        ("tests.harness.broken_losses:raising", "error", "this loss [does] not work"),
        ("tests.harness.broken_losses:killed", "error", "killed by SIGKILL"),
        ("tests.harness.broken_losses:out_of_memory_in_cpp", "oom", "bad_alloc"),
        ("tests.harness.broken_losses:leaving", "error", "before it had finished"),
        ("torch_impl.no_such_module:loss", "error", "No module named"),
        ("no_such_package:loss", "unavailable", "no_such_package, which is not installed"),
    ],
)
def test_status_of_a_broken_loss(
    run_harness: Callable[..., Finished], target: str, status: str, message: str
) -> None:
    done = run_harness(
        *TINY, "--framework=torch", "--variants=broken,chunked", variants={"broken": target}
    )
    by_variant = {record["variant"]: record for record in done.records}
    assert by_variant["broken"]["status"] == status
    assert message in by_variant["broken"]["error"]["message"]
    assert message in done.stdout
    assert by_variant["chunked"]["status"] == "ok"
    assert done.status == (0 if status in ("oom", "unavailable") else 1)


def test_timeout(run_harness: Callable[..., Finished]) -> None:
    done = run_harness(
        *TINY, "--framework=torch", "--variants=slow", "--timeout_s=10",
        variants={"slow": "tests.harness.broken_losses:sleeping"},
    )  # fmt: skip
    assert done.status == 1
    (record,) = done.records
    assert record["status"] == "timeout"
    assert record["error"]["message"] == "stopped after 10 s"
    assert record["environment"]["versions"]["torch"]  # what was known before is kept


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_out_of_memory_is_a_result(run_harness: Callable[..., Finished], framework: str) -> None:
    """[N, V] logits of 128 MiB do not fit into 0.1 GiB; the chunked loss does."""
    done = run_harness(
        f"--framework={framework}", "--variants=standard,chunked", "--memory_limit_gib=0.1",
        "--batch_size=4", "--seq_len=256", "--hidden_dim=64", "--vocab_sizes=32768",
        "--repeats=1", "--warmup=0",
    )  # fmt: skip
    status = {record["variant"]: record["status"] for record in done.records}
    assert status == {"standard": "oom", "chunked": "ok"}, done.stdout
    assert done.status == 0
    standard = next(record for record in done.records if record["variant"] == "standard")
    assert standard["error"]["message"]
    assert standard["memory"] is None  # not measured is null, not 0
    assert done.directory is not None
    assert "out of memory" in (done.directory / "summary.md").read_text()


def test_missing_gpu_is_unavailable(run_harness: Callable[..., Finished]) -> None:
    """The suite hides a GPU from both frameworks (tests/conftest.py)."""
    done = run_harness(*TINY, "--device=gpu", "--variants=chunked")
    assert {record["status"] for record in done.records} == {"unavailable"}
    assert all("device=gpu" in record["error"]["message"] for record in done.records)
    assert done.status == 0


def test_reference_that_fails_costs_its_cases_and_no_others(
    run_harness: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A temporary directory that takes no large file: the float64 gradients do not fit."""
    monkeypatch.setenv("HARNESS_TEST_FILE_LIMIT", "3000000")
    done = run_harness(
        *TINY,
        "--framework=torch",
        "--variants=chunked,floor",
        "--vocab_sizes=96,96000",
        variants={},
    )
    status = {(record["variant"], record["vocab_size"]): record for record in done.records}
    assert status["chunked", 96]["status"] == "ok"
    assert status["floor", 96000]["status"] == "ok"
    assert status["chunked", 96000]["status"] == "error"
    assert status["chunked", 96000]["error"]["type"] == "NoReference"
    assert len(status["chunked", 96000]["timing"]["step_s"]) == 2  # measured, if not checked
    assert status["chunked", 96000]["memory"]["peak_bytes"] > 0
    assert done.status == 1
