"""Synthetic records of one case: what a comparison reads of them, and nothing else."""

from __future__ import annotations

from typing import Any

MIB = 2**20
QUIET_S = (1.0, 1.01, 0.99, 1.005, 0.995)
ENVIRONMENT = {
    "versions": {"torch": "2.13.0"},
    "cpu": {"model": "Example CPU", "cores": 4},
    "gpu": None,
    "threads": 2,
    "git_revision": "abc1234",
}


def make_record(name: str = "a", *, variant: str = "chunked", **changes: Any) -> dict[str, Any]:
    """A case that went well; `changes` replace its fields, `step_s` its samples."""
    step_s = changes.pop("step_s", QUIET_S)
    record = {
        "run_id": "run",
        "case_id": f"torch-{variant}-{name}",
        "started_at": "2026-01-01T00:00:00+00:00",
        "status": "ok",
        "framework": "torch",
        "variant": variant,
        "device": "cpu",
        "dtype": "float32",
        "batch_size": 1,
        "seq_len": 8,
        "hidden_dim": 4,
        "vocab_size": 32,
        "options": {},
        "timing": {"step_s": list(step_s)},
        "memory": make_memory(),
        "environment": ENVIRONMENT,
    }
    return record | changes


def make_memory(
    workspace_bytes: int = 16 * MIB, gradients_bytes: int = 100 * MIB, probe: str = "events"
) -> dict[str, Any]:
    peak_bytes = workspace_bytes + 2 * gradients_bytes
    return {"workspace_bytes": workspace_bytes, "peak_bytes": peak_bytes, "probe": probe}


def make_floor(factor: float = 1.0) -> dict[str, Any]:
    return make_record(variant="floor", step_s=times(factor), memory=None)


def make_breaking_point(
    largest_ran: int | None, smallest_failed: int | None, axis: str = "vocab_size"
) -> dict[str, Any]:
    found = {"axis": axis, "largest_ran": largest_ran, "smallest_failed": smallest_failed}
    return make_record(mode="breaking_point", breaking_point=found, timing=None, memory=None)


def make_anatomy(peak_bytes: int, source: str = "events") -> dict[str, Any]:
    found = {"peak_bytes": peak_bytes, "source": source}
    return make_record(mode="anatomy", anatomy=found, timing=None, memory=None)


def times(factor: float) -> list[float]:
    return [factor * sample for sample in QUIET_S]
