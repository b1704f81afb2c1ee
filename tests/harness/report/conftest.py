"""Synthetic records: plausible figures, the same ones for the same arguments."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

MIB = 1024**2
TOLERANCE = {"loss_error": 1e-5, "grad_hidden_error": 1e-5, "grad_weight_error": 1e-5}

Record = dict[str, Any]


def _record(
    framework: str = "torch",
    variant: str = "standard",
    vocab_size: int = 8192,
    *,
    status: str = "ok",
    seq_len: int = 2048,
    hidden_dim: int = 512,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> Record:
    """One record of the contract; `changes` replace its top-level fields."""
    draw = random.Random(f"{framework} {variant} {vocab_size}")
    weight_bytes = 4 * vocab_size * hidden_dim
    gradients = weight_bytes + 4 * seq_len * hidden_dim
    inputs = gradients + 8 * seq_len
    copies = 2.8 if framework == "torch" else 2.0
    workspace = {"standard": int(copies * 4 * seq_len * vocab_size)}.get(variant, 10 * MIB)
    slow = {"standard": 1.25, "floor": 1.0}.get(variant, 1.4)
    step = slow * 6 * seq_len * vocab_size * hidden_dim / 95e9
    record: Record = {
        "schema_version": 1,
        "run_id": "run",
        "case_id": None,
        "started_at": "2026-01-01T00:00:00Z",
        "status": status,
        "framework": framework,
        "variant": variant,
        "device": "cpu",
        "dtype": "float32",
        "batch_size": 1,
        "seq_len": seq_len,
        "hidden_dim": hidden_dim,
        "vocab_size": vocab_size,
        "options": {"vocab_chunk": None, "ignored_fraction": 0.0, "memory_limit_gib": None}
        | (options or {}),
        "timing": None,
        "memory": None,
        "numerics": None,
        "error": None,
        "environment": {
            "versions": {"python": "3.11.2", framework: "1.0"},
            "cpu": {"model": "Example CPU", "cores": 4},
            "gpu": None,
            "threads": 2,
            "git_revision": "abc1234",
        },
    }
    if status == "oom":
        record["error"] = {"type": "OutOfMemoryError", "message": "tried 512 MiB\nsecond line"}
    if status == "ok":
        record["timing"] = {
            "compile_s": 1.2 if framework == "jax" else None,
            "first_step_s": 1.3 * step,
            "forward_s": [step / 3 * draw.uniform(0.97, 1.06) for _ in range(5)],
            "step_s": [step * draw.uniform(0.97, 1.06) for _ in range(5)],
        }
    if status == "ok" and variant != "floor":
        record["memory"] = {
            "inputs_bytes": inputs,
            "gradients_bytes": gradients,
            "peak_bytes": inputs + gradients + workspace,
            "additional_bytes": gradients + workspace,
            "workspace_bytes": workspace,
            "reserved_bytes": None,
            "host_rss_bytes": gradients + workspace + MIB,
            "probe": {"jax": "xla buffer assignment"}.get(framework, "torch allocator events"),
            "xla": None,
        }
        record["numerics"] = {
            "loss": 9.1,
            "loss_error": 1.2e-7,
            "grad_hidden_error": 3e-7,
            "grad_weight_error": 4e-7,
            "tolerance": TOLERANCE,
        }
    return record | changes


def _sweep(
    vocab_sizes: Sequence[int] = (8192, 16384, 32768),
    *,
    variants: Sequence[str] = ("standard", "chunked", "floor"),
    frameworks: Sequence[str] = ("jax", "torch"),
    out_of_memory: Iterable[tuple[str, str, int]] = (),
    **changes: Any,
) -> list[Record]:
    failed = set(out_of_memory)
    return [
        _record(
            framework,
            variant,
            vocab_size,
            status="oom" if (framework, variant, vocab_size) in failed else "ok",
            **changes,
        )
        for vocab_size in vocab_sizes
        for framework in frameworks
        for variant in variants
    ]


@pytest.fixture
def make_record() -> Callable[..., Record]:
    return _record


@pytest.fixture
def sweep() -> Callable[..., list[Record]]:
    return _sweep
