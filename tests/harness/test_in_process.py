"""A worker in the process of a test leaves no more behind than one in a process of its own."""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from harness import measure, scheduler, sweep
from harness.variants import EVERY_VARIANT
from tests.harness.conftest import TINY, parent_here
from tests.harness.in_process import run_workers_here


def settings() -> dict[str, Any]:
    return {
        "environment": dict(os.environ),
        "limits": [resource.getrlimit(getattr(resource, f"RLIMIT_{kind}")) for kind in LIMITS],
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "torch threads": torch.get_num_threads(),
        "torch dtype": torch.get_default_dtype(),
        "torch matmuls": torch.get_float32_matmul_precision(),
        "torch gradients": torch.is_grad_enabled(),
        "jax dtype": jnp.asarray(np.ones(1, np.float64)).dtype,
        "jax matmuls": jax.config.jax_default_matmul_precision,
        "variants": dict(EVERY_VARIANT),
        "standard output": (sys.stdout, sys.stderr),
        "replaced": (
            scheduler.run_worker, sweep.run_reference, measure.host_rss, Figure.savefig,
        ),
        "open files": len(os.listdir("/proc/self/fd")),
    }  # fmt: skip


LIMITS = ("DATA", "AS", "FSIZE")


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    run_all(tmp_path / "first")  # what is loaded once stays: files, threads
    before = settings()
    run_all(tmp_path / "second")
    assert settings() == before


def run_all(output_dir: Path) -> None:
    """What a test with `run_here` does, from its set-up to its tear-down."""
    with pytest.MonkeyPatch.context() as patches:
        run_workers_here(patches)
        run = parent_here(output_dir, patches)
        flags = (*TINY, "--framework=torch", "--variants=mess", "--memory_limit_gib=4")
        done = run(*flags, variants={"mess": "tests.harness.broken_losses:leaving_a_mess"})
        assert [record["status"] for record in done.records] == ["ok"]
        again = run(*flags, "--resume")
        assert (again.status, again.directory) == (0, done.directory), "nobody holds the run"
        done = run(*TINY, "--framework=jax", "--dtype=float64", "--variants=standard")
        assert done.records[0]["status"] == "ok"
