"""Runs the harness as a user does: in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--batch_size=2", "--seq_len=16", "--hidden_dim=8", "--vocab_sizes=96", "--repeats=2")


@dataclass(frozen=True)
class Finished:
    """What a run of the harness left."""

    status: int
    stdout: str
    stderr: str
    directory: Path | None

    @property
    def records(self) -> list[dict[str, Any]]:
        assert self.directory is not None, self.stderr
        lines = (self.directory / "records.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


def harness_command(*flags: str, variants: dict[str, Any] | None = None) -> list[str]:
    """On the CPU, wherever the suite runs, unless the flags say otherwise."""
    flags = ("--device=cpu", *flags)
    if variants is None:
        return [sys.executable, "-m", "harness.run", *flags]
    return [sys.executable, "-m", "tests.harness.run_with", json.dumps(variants), *flags]


@pytest.fixture
def run_harness(tmp_path: Path) -> Callable[..., Finished]:
    """Runs the harness with the flags, `variants` (name to target) beside its own."""

    def run(*flags: str, variants: dict[str, Any] | None = None) -> Finished:
        output_dir = tmp_path / "results"
        done = subprocess.run(
            harness_command(*flags, f"--output_dir={output_dir}", variants=variants),
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "120"},
            timeout=300,
        )
        runs = sorted(output_dir.iterdir()) if output_dir.is_dir() else []
        return Finished(done.returncode, done.stdout, done.stderr, runs[-1] if runs else None)

    return run
