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
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from harness import record
from harness.cases import BREAKING_POINT, Case, Shape
from harness.environment import gpu_memory_bytes, usable_cores
from harness.json_lines import object_in
from harness.memory.oom_kills import kernel_oom_kills

_LOOK_EVERY_S = 1.0  # whether a silent worker is still there
_KEPT_OUTPUT_BYTES = 65536
_LONGEST_MESSAGE = 4000
_OF_ITSELF = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGTRAP, signal.SIGILL)
_UNNAMED = "one that a library does not name"
_ROOT = Path(__file__).resolve().parent.parent
# XLA would take three quarters at most, and PyTorch all that it can get.
_MOST_OF_A_GPU = 0.97


class Ended(NamedTuple):
    """What a worker has left."""

    sections: dict[str, Any]
    """The newest value of each that it sent."""
    unreadable: int
    """Lines among them that are no sections."""
    exit_code: int | None
    """None if it ran out of time."""
    output: str
    """The end of what it printed."""

    @property
    def died(self) -> bool:
        return bool(self.exit_code) and not {"finished", "failure"} & set(self.sections)

    @property
    def may_be_of_a_limit(self) -> bool:
        """Whether a process can end so that was refused memory: nobody else ended it."""
        code = self.exit_code or 0
        return self.died and (code > 0 or -code in _OF_ITSELF)


def run_case(
    case: Case, run_id: str, host: dict[str, Any], reference: Path | None, traces: Path
) -> dict[str, Any]:
    """The record of the case. Only an interrupt gets out of here.

    The worker reads the answer to its shape from `reference`, and checks nothing without one;
    a profile of a step, where one is wanted, gets a folder of its own in `traces`.
    """
    result = record.new_record(case, run_id)
    result["environment"] = {**host, "gpu": None, "threads": None}
    oom_kills = kernel_oom_kills()
    start = time.monotonic()
    try:
        ended = run_worker(case, reference, traces / case.case_id)
    except OSError as error:  # the machine has no process or no pipe left
        result["error"] = {"type": "NoWorker", "message": str(error)}
        return result
    result["wall_s"] = time.monotonic() - start
    sections = ended.sections

    found = sections.get("environment")
    if found is not None:
        result["device"] = found["device"]
        result["environment"] |= {"gpu": found["gpu"], "threads": found["threads"]}
        result["environment"]["versions"] = {**host["versions"], **found["versions"]}
    for name in ("plan", "timing", "memory", "numerics", "anatomy", "trace"):
        result[name] = sections.get(name)
    killed_for_memory = ended.exit_code == -signal.SIGKILL and kernel_oom_kills() > oom_kills
    result["status"], result["error"] = _judge(ended, case.measurement.timeout_s, killed_for_memory)
    failed = result["status"] == record.ERROR and ended.may_be_of_a_limit
    if failed and _lives_without_limit(case):
        result["status"] = record.OOM
        result["error"]["allocation"] = f"{_UNNAMED}: the step runs without the limit"
    return result


def _lives_without_limit(case: Case) -> bool:
    """Whether a limit on memory is what a worker died of: not every library says so.

    The same second opinion that a worker has of what is raised (`harness.measure.limited`).
    """
    measurement = case.measurement
    if measurement.memory_limit_gib is None or measurement.device != "cpu":
        return False
    free = dataclasses.replace(measurement, memory_limit_gib=None, trace=False)
    again = dataclasses.replace(case, mode=BREAKING_POINT, measurement=free)
    ended = run_worker(again, None, Path(os.devnull))
    return "finished" in ended.sections and "failure" not in ended.sections


def _judge(
    ended: Ended, timeout_s: float, killed_for_memory: bool
) -> tuple[str, dict[str, str] | None]:
    """The record's status and error. What a worker does after it has finished is no matter."""
    failure = ended.sections.get("failure")
    if failure is not None:
        error = {name: record.printable(text) for name, text in failure["error"].items()}
        return failure["status"], error
    if "finished" in ended.sections:
        if ended.unreadable:
            message = f"unreadable lines in what the worker sent: {ended.unreadable}"
            return record.ERROR, {"type": "Garbled", "message": message}
        return record.judge(ended.sections.get("numerics"))
    if ended.exit_code is None:
        message = f"stopped after {timeout_s:g} s"
        return record.TIMEOUT, {"type": "Timeout", "message": message}
    if ended.exit_code == 0:
        return record.ERROR, {"type": "WorkerDied", "message": "ended before it had finished"}
    error = {"type": "WorkerDied", "message": _last_words(ended.exit_code, ended.output)}
    if killed_for_memory:
        return record.OOM, error | {"allocation": "a page: the kernel had no memory left"}
    if "bad_alloc" in ended.output:
        return record.OOM, error | {"allocation": _UNNAMED}
    return record.ERROR, error


def run_reference(shape: Shape, device: str, directory: Path, timeout_s: float) -> None:
    """Writes the reference of a shape; raises `RuntimeError` with its last words if it cannot.

    In a process that has left the `device` of the cases when they run.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "harness.reference", str(directory), device],
            input=json.dumps(dataclasses.asdict(shape)),
            capture_output=True,
            text=True,
            errors="replace",
            cwd=_ROOT,
            start_new_session=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"reference: stopped after {timeout_s:g} s") from None
    if done.returncode != 0:
        raise RuntimeError(f"reference: {_last_words(done.returncode, done.stderr)}")


def run_worker(case: Case, reference: Path | None, trace: Path) -> Ended:
    """Runs the case in a process of its own, which is stopped when its time is up."""
    deadline = time.monotonic() + case.measurement.timeout_s
    read_end, write_end = os.pipe()
    arguments = [str(write_end), str(reference or ""), str(trace)]
    with os.fdopen(read_end, "rb") as pipe, _worker(case, arguments, write_end) as process:
        sent, printed = _listen(process, pipe, deadline)
        with suppress(subprocess.TimeoutExpired):  # its last moments, with both ends closed
            process.wait(max(deadline - time.monotonic(), 0.1))
        exit_code = process.returncode
    return read_ended(sent, exit_code, printed)


def read_ended(sent: bytes, exit_code: int | None, printed: bytes) -> Ended:
    """Reads what came through the pipe, a section a line; the last line may be cut short."""
    *lines, _cut_short = sent.split(b"\n")
    messages = [object_in(line) for line in lines]
    sections = [message for message in messages if message and {"section", "value"} <= set(message)]
    return Ended(
        sections={section["section"]: section["value"] for section in sections},
        unreadable=len(lines) - len(sections),
        exit_code=exit_code,
        output=printed.decode(errors="replace"),
    )


@contextmanager
def _worker(
    case: Case, arguments: Sequence[str], write_end: int
) -> Iterator[subprocess.Popen[bytes]]:
    """The worker's process, in a session of its own; killed with all it started, on any way out."""
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[write_end],
            env={**os.environ, **worker_environment(case)},
            cwd=_ROOT,
            start_new_session=True,  # Ctrl-C is for the parent, which then stops the worker
        )
    finally:
        os.close(write_end)  # or the end of the worker would not be the end of the pipe
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout:
        try:
            # A worker that is dead already is found out by its exit code.
            with suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(json.dumps(case.to_json()).encode())
            yield process
        finally:
            with suppress(ProcessLookupError):  # all of them have ended
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
    total = gpu_memory_bytes() if case.framework == "jax" else None
    if total is not None and case.measurement.device == "gpu":
        limit = case.measurement.memory_limit_gib
        share = _MOST_OF_A_GPU if limit is None else min(limit * 2**30 / total, 1.0)
        settings["XLA_CLIENT_MEM_FRACTION"] = f"{share:.6f}"
    return settings


def _listen(
    process: subprocess.Popen[bytes], pipe: IO[bytes], deadline: float
) -> tuple[bytes, bytes]:
    """What the worker sends and the end of what it prints, until it has closed both."""
    assert process.stdout is not None
    sent, printed = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ, sent)
        selector.register(process.stdout, selectors.EVENT_READ, printed)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            ready = selector.select(min(left, _LOOK_EVERY_S))
            if not ready and process.poll() is not None:
                break  # what it started has outlived it, and holds the pipes open
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                key.data.extend(data)
                if not data:
                    selector.unregister(key.fileobj)
            del printed[:-_KEPT_OUTPUT_BYTES]
    return bytes(sent), bytes(printed)


def _last_words(exit_code: int, output: str) -> str:
    if exit_code < 0:
        how = f"killed by {signal.Signals(-exit_code).name}"
    else:
        how = f"exit code {exit_code}"
    lines = output.strip().splitlines()
    if not lines:
        return how
    last = record.printable(" | ".join(lines[-3:]))
    return f"{how}; last output: {last[-_LONGEST_MESSAGE:]}"
