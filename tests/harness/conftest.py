"""Runs the harness: in a process of its own, as a user does, or in that of the test.

Most of what a run leaves is not about processes. Workers in the test's process leave the same in a
tenth of the time.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import run as harness_run
from harness import scheduler, targets
from harness.variants import EVERY_VARIANT
from tests.harness.run_with import variant_for_a_test

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


Main = Callable[[Sequence[str]], int]
RunHarness = Callable[..., Finished]
"""Flags, and `variants`: name to target, beside those that the harness has."""


def harness_command(*flags: str, variants: dict[str, Any] | None = None) -> list[str]:
    """On the CPU, wherever the suite runs, unless the flags say otherwise."""
    flags = ("--device=cpu", *flags)
    if variants is None:
        return [sys.executable, "-m", "harness.run", *flags]
    return [sys.executable, "-m", "tests.harness.run_with", json.dumps(variants), *flags]


@pytest.fixture
def run_harness(tmp_path: Path) -> RunHarness:
    """Runs the harness with the flags in a process of its own, and its workers in theirs."""

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
        return Finished(done.returncode, done.stdout, done.stderr, _newest_in(output_dir))

    return run


def parent_here(output_dir: Path, monkeypatch: pytest.MonkeyPatch) -> RunHarness:
    """What `run_parent_here` runs; what it changes is undone with the patches."""
    from tests.harness.in_process import hurry  # loads both frameworks

    hurry(monkeypatch)

    def run(
        *flags: str, variants: dict[str, Any] | None = None, main: Main = harness_run.main
    ) -> Finished:
        for name, target in (variants or {}).items():
            monkeypatch.setitem(EVERY_VARIANT, name, variant_for_a_test(target))
        with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr:
            status = main(["--device=cpu", *flags, f"--output_dir={output_dir}"])
        return Finished(status, stdout.getvalue(), stderr.getvalue(), _newest_in(output_dir))

    return run


@pytest.fixture
def run_parent_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunHarness:
    """Runs the harness, or the command that is `main`, in this process; its workers in theirs."""
    return parent_here(tmp_path / "results", monkeypatch)


@pytest.fixture
def workers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and references run in this process."""
    from tests.harness.in_process import run_workers_here

    run_workers_here(monkeypatch)


@pytest.fixture
def run_here(run_parent_here: RunHarness, workers_here: None) -> RunHarness:
    """Runs the harness in this process, its workers and references, too."""
    return run_parent_here


@pytest.fixture
def import_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[dict[str, str]], None]]:
    """Makes `import name` run a program of ours, in this process and those that it starts."""
    directory = tmp_path / "instead"
    directory.mkdir()

    def make(programs: dict[str, str]) -> None:
        for name, program in programs.items():
            (directory / f"{name}.py").write_text(program)
            for loaded in list(sys.modules):
                if loaded.partition(".")[0] == name:
                    monkeypatch.delitem(sys.modules, loaded)

    monkeypatch.syspath_prepend(directory)
    monkeypatch.setenv("PYTHONPATH", str(directory), prepend=os.pathsep)
    targets.forget_attempts()
    yield make
    targets.forget_attempts()


def time_is_up_when(condition: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler's clock leaps ahead then: no test waits, no slow machine is too slow."""
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + (1000 if condition() else 0))
    monkeypatch.setattr(scheduler, "time", clock)


def _newest_in(output_dir: Path) -> Path | None:
    runs = sorted(output_dir.iterdir()) if output_dir.is_dir() else []
    return runs[-1] if runs else None
