"""One case in a process of its own.

`python -m harness.worker FD REFERENCE TRACE` takes the case as JSON on standard input,
reads the reference from the folder REFERENCE (checks nothing if that is empty), and writes
a profile, where one is wanted, into the folder TRACE. What it finds goes to the file
descriptor FD, a JSON object a line, as soon as it is known: what was measured survives what
goes wrong later. Standard output and error are left to the framework.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from harness import record
from harness.cases import Case
from harness.measure import OverLimitError, Send, WrongLossError, measure
from harness.memory.failed_allocation import failed_allocation
from harness.orphan import die_with_parent
from harness.reference import inputs_of
from harness.workload import UnavailableError


def main() -> None:
    die_with_parent()
    pipe = os.fdopen(int(sys.argv[1]), "w")
    case = Case.from_json(json.load(sys.stdin))
    reference = Path(sys.argv[2]) if sys.argv[2] else None
    run_case(case, reference, Path(sys.argv[3]), sends_to(pipe))


def sends_to(pipe: TextIO) -> Send:
    """Writes a section a line, as `harness.scheduler.read_ended` reads them."""

    def send(section: str, value: Any) -> None:
        print(json.dumps({"section": section, "value": value}), file=pipe, flush=True)

    return send


def run_case(case: Case, reference: Path | None, trace: Path, send: Send) -> None:
    """Sends sections as they are found; `finished` last, or `failure` instead of the rest."""
    is_out_of_memory: Callable[[BaseException], bool] = _never
    parts: dict[int, str] = {}
    try:
        backend = _load_backend(case.framework)
        is_out_of_memory = backend.is_out_of_memory
        limit_bytes = _prepare(case, backend, send)
        workload = backend.build(case, inputs_of(case.shape, reference), case.measurement.device)
        parts |= workload.parts
        if workload.plan is not None:
            send("plan", workload.plan)
        host_limit = limit_bytes if case.measurement.device == "cpu" else None
        measure(case, workload, send, reference=reference, trace=trace, host_limit=host_limit)
        send("finished", True)
    except Exception as error:
        status = _status(error, is_out_of_memory)
        told = error.__cause__ if isinstance(error, OverLimitError) and error.__cause__ else error
        words = {"type": type(told).__name__, "message": str(told)[:4000]}
        if status == record.OOM:
            allocation = failed_allocation(told, case.shape, parts)
            words["allocation"] = allocation or _unnamed(parts)
        send("failure", {"status": status, "error": words})


def _status(error: Exception, is_out_of_memory: Callable[[BaseException], bool]) -> str:
    if isinstance(error, UnavailableError):
        return record.UNAVAILABLE
    if isinstance(error, WrongLossError):
        return record.MISMATCH
    if isinstance(error, MemoryError) or is_out_of_memory(error):
        return record.OOM
    return record.ERROR


def _unnamed(parts: dict[int, str]) -> str:
    """What is known of an allocation that a library failed to get without saying so."""
    known = [f"{size / 2**20:,.1f} MiB for {what}" for size, what in parts.items()]
    return f"one that a library does not name{''.join(f', beside {each}' for each in known)}"


def _never(error: BaseException) -> bool:
    """Before the framework is there, only Python itself runs out of memory."""
    return False


def _load_backend(framework: str) -> Any:
    if importlib.util.find_spec(framework) is None:
        raise UnavailableError(f"{framework} is not installed")
    return importlib.import_module(f"harness.backends.{framework}_backend")


def _prepare(case: Case, backend: Any, send: Send) -> int | None:
    """Chooses the device, says what it is, and returns its limit in bytes."""
    device, gpu = backend.select_device(case.measurement.device)
    send(
        "environment",
        {
            "device": device,
            "gpu": gpu,
            "threads": backend.num_threads(),
            "versions": backend.versions(),
        },
    )
    if device == "cpu" and case.not_on_cpu:
        raise UnavailableError(case.not_on_cpu)
    if case.measurement.memory_limit_gib is None:
        return None
    limit_bytes = int(case.measurement.memory_limit_gib * 2**30)
    if device == "gpu":
        backend.limit_device_memory(limit_bytes)
    return limit_bytes


if __name__ == "__main__":
    main()
