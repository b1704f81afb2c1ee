"""Runs one case in a fresh worker and makes a record of whatever becomes of it.

The parent imports no framework. What must be known before Python starts (devices,
threads, allocators) goes into the worker's environment.
"""

from __future__ import annotations

import dataclasses
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from harness import record
from harness.cases import Case, Shape
from harness.environment import gpu_memory_bytes, usable_cores

_LONGEST_WAIT_S = 3600.0  # of one system call, which does not take any number
_ROOT = Path(__file__).resolve().parent.parent


def run_case(
    case: Case, run_id: str, host: dict[str, Any], reference: Path, traces: Path
) -> dict[str, Any]:
    """The record of the case. Only an interrupt gets out of here.

    The worker reads the answer to its shape from `reference`; a profile of a step, where one
    is wanted, gets a folder of its own in `traces`.
    """
    result = record.new_record(case, run_id)
    result["environment"] = {**host, "gpu": None, "threads": None}
    oom_kills = _kernel_oom_kills()
    start = time.monotonic()
    sections, exit_code, output = _run_worker(case, reference, traces / case.case_id)
    result["wall_s"] = time.monotonic() - start

    found = sections.get("environment")
    if found is not None:
        result["device"] = found["device"]
        result["environment"] |= {"gpu": found["gpu"], "threads": found["threads"]}
        result["environment"]["versions"] = {**host["versions"], **found["versions"]}
    for name in ("plan", "timing", "memory", "numerics", "anatomy", "trace"):
        result[name] = sections.get(name)

    failure = sections.get("failure")
    if failure is not None:
        result |= failure
    elif exit_code is None:
        limit = f"{case.measurement.timeout_s:g} s"
        result["status"] = record.TIMEOUT
        result["error"] = {"type": "Timeout", "message": f"stopped after {limit}"}
    elif exit_code != 0:
        killed_by_kernel = exit_code == -signal.SIGKILL and _kernel_oom_kills() > oom_kills
        out_of_memory = "bad_alloc" in output or killed_by_kernel
        result["status"] = record.OOM if out_of_memory else record.ERROR
        result["error"] = {"type": "WorkerDied", "message": _last_words(exit_code, output)}
    elif "finished" not in sections:
        result["error"] = {"type": "WorkerDied", "message": "ended before it had finished"}
    else:
        result["status"], result["error"] = record.judge(sections.get("numerics"))
    return result


def run_reference(shape: Shape, directory: Path, timeout_s: float) -> None:
    """Writes the reference of a shape; raises `RuntimeError` with its last words if it cannot."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "harness.reference", str(directory)],
            input=json.dumps(dataclasses.asdict(shape)),
            capture_output=True,
            text=True,
            cwd=_ROOT,
            start_new_session=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"reference: stopped after {timeout_s:g} s") from None
    if done.returncode != 0:
        raise RuntimeError(f"reference: {_last_words(done.returncode, done.stderr)}")


def _run_worker(case: Case, reference: Path, trace: Path) -> tuple[dict[str, Any], int | None, str]:
    """What the worker sent, its exit code (None if it ran out of time), and its output."""
    deadline = time.monotonic() + case.measurement.timeout_s
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as pipe, tempfile.TemporaryFile("w+") as output:
        with _worker(case, [reference, trace], write_end, output) as process:
            os.close(write_end)
            sections, in_time = _read_sections(pipe, deadline)
            exit_code = None
            if in_time:
                try:
                    exit_code = process.wait(max(deadline - time.monotonic(), 1.0))
                except subprocess.TimeoutExpired:
                    exit_code = None
        output.seek(0)
        return sections, exit_code, output.read()


@contextmanager
def _worker(
    case: Case, directories: Sequence[Path], write_end: int, output: IO[str]
) -> Iterator[subprocess.Popen[str]]:
    """The worker's process, in a session of its own; killed with all it started, on any way out."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.worker", str(write_end), *map(str, directories)],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=[write_end],
        env={**os.environ, **worker_environment(case)},
        cwd=_ROOT,
        start_new_session=True,  # Ctrl-C is for the parent, which then stops the worker
        text=True,
    )
    try:
        assert process.stdin is not None
        # A worker that is dead already is found out by its exit code.
        with suppress(BrokenPipeError), process.stdin as stdin:
            json.dump(case.to_json(), stdin)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def worker_environment(case: Case) -> dict[str, str]:
    """Settings that take effect only before Python starts."""
    threads = str(usable_cores())
    settings = {
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        "MKL_NUM_THREADS": os.environ.get("MKL_NUM_THREADS", threads),
        # Taking three quarters of the device at the start would hide what a step needs.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    if case.measurement.device == "cpu":
        settings |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    else:
        # JAX would round float32 operands to TF32 on a GPU, and PyTorch would not.
        settings["JAX_DEFAULT_MATMUL_PRECISION"] = "highest"
    limit = case.measurement.memory_limit_gib
    if limit is not None and case.framework == "jax":
        total = gpu_memory_bytes()
        if total is not None:
            settings["XLA_CLIENT_MEM_FRACTION"] = f"{min(limit * 2**30 / total, 1.0):.6f}"
    return settings


def _read_sections(pipe: IO[bytes], deadline: float) -> tuple[dict[str, Any], bool]:
    """The newest value of each section, and whether the worker closed its end in time."""
    received = bytearray()
    in_time = False
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(min(left, _LONGEST_WAIT_S)):
                continue
            data = os.read(pipe.fileno(), 65536)
            if not data:
                in_time = True
                break
            received += data
    *lines, _incomplete = received.split(b"\n")
    messages = [json.loads(line) for line in lines]
    return {message["section"]: message["value"] for message in messages}, in_time


def _kernel_oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _last_words(exit_code: int, output: str) -> str:
    if exit_code < 0:
        how = f"killed by {signal.Signals(-exit_code).name}"
    else:
        how = f"exit code {exit_code}"
    lines = output.strip().splitlines()
    return f"{how}; last output: {' | '.join(lines[-3:])}" if lines else how
