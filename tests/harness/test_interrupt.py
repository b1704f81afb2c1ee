"""A sweep that is stopped keeps what it had, and goes on with --resume."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.store import open_run
from tests.harness.conftest import ROOT, TINY, RunHarness, harness_command

FLAGS = (*TINY, "--framework=torch", "--variants=floor,stream", "--vocab_sizes=96,100")


@pytest.fixture
def heeding_interrupts() -> Iterator[None]:
    """A suite in a shell's background would hand down to its children that Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_interrupts")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_sweep_keeps_its_records_and_resumes(
    run_here: RunHarness, tmp_path: Path, how: signal.Signals
) -> None:
    output_dir = tmp_path / "results"
    process = subprocess.Popen(
        harness_command(*FLAGS, f"--output_dir={output_dir}"),
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    first = _wait_for_a_record(output_dir)
    process.send_signal(how)
    stdout, _ = process.communicate(timeout=60)
    if how != signal.SIGKILL:
        assert process.returncode == 130
        assert "--resume" in stdout
        assert (first.parent / "report.html").exists()
    kept = first.read_text().splitlines()
    assert 1 <= len(kept) < 4
    # A kill in the middle of a line must not spoil the rest.
    first.write_text("\n".join(kept) + '\n{"case_id": "cut sho')

    done = run_here(*FLAGS, "--resume")
    assert done.status == 0, done.stdout + done.stderr
    assert first.read_text().splitlines()[: len(kept)] == kept
    records = open_run(first.parent).records()
    assert len({record["case_id"] for record in records}) == len(records) == 4
    assert {record["status"] for record in records} == {"ok"}
    assert done.directory == first.parent
    assert len(list(output_dir.iterdir())) == 1


def test_resume_without_a_run_to_go_on_with(run_here: RunHarness) -> None:
    done = run_here(*TINY, "--resume")
    assert done.status == 2
    assert "--resume" in done.stderr


def test_worker_dies_with_its_parent(tmp_path: Path) -> None:
    """A killed parent leaves nothing running that would disturb the next measurement."""
    sleeping = tmp_path / "sleeping"
    process = subprocess.Popen(
        harness_command(
            *TINY, "--framework=torch", "--variants=slow", f"--output_dir={tmp_path / 'results'}",
            variants={"slow": "tests.harness.broken_losses:sleeping"},
        ),
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "SLEEPING": str(sleeping)},
    )  # fmt: skip
    _wait_for(sleeping.exists)
    worker = _worker_of(process.pid)
    assert worker is not None
    process.kill()
    process.wait()
    _wait_for(lambda: not Path(f"/proc/{worker}").exists() or _is_zombie(worker))


def _wait_for_a_record(output_dir: Path) -> Path:
    def written() -> Path | None:
        return next((path for path in output_dir.glob("*/records.jsonl") if path.read_text()), None)

    return _wait_for(written)


def _wait_for(condition: Callable[[], object], timeout_s: float = 90.0):
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)
    return result


def _worker_of(parent: int) -> int | None:
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            try:
                status = Path(f"/proc/{entry}/status").read_text()
                command = Path(f"/proc/{entry}/cmdline").read_text()
            except OSError:
                continue
            if f"PPid:\t{parent}\n" in status and "harness.worker" in command:
                return int(entry)
    return None


def _is_zombie(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
