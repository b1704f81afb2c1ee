"""One case in a process of its own.

`python -m harness.worker FD DIRECTORY` takes the case as JSON on standard input,
and reads the reference from DIRECTORY. What it finds goes to the file descriptor
FD, a JSON object a line, as soon as it is known: what was measured survives what
goes wrong later. Standard output and error are left to the framework.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import record
from harness.cases import Case
from harness.memory.host_rss import host_rss_growth_bytes
from harness.memory.limit import data_limit
from harness.orphan import die_with_parent
from harness.reference import compare, inputs_of
from harness.workload import UnavailableError, Workload

Send = Callable[[str, Any], None]


def main() -> None:
    die_with_parent()
    pipe = os.fdopen(int(sys.argv[1]), "w")
    case = Case.from_json(json.load(sys.stdin))

    def send(section: str, value: Any) -> None:
        print(json.dumps({"section": section, "value": value}), file=pipe, flush=True)

    run_case(case, Path(sys.argv[2]), send)


def run_case(case: Case, reference_directory: Path, send: Send) -> None:
    """Sends sections as they are found; `finished` last, or `failure` instead of the rest."""
    is_out_of_memory: Callable[[BaseException], bool] = _never
    try:
        backend = _load_backend(case.framework)
        is_out_of_memory = backend.is_out_of_memory
        _measure(case, backend, reference_directory, send)
    except Exception as error:
        if isinstance(error, UnavailableError):
            status = record.UNAVAILABLE
        elif isinstance(error, MemoryError) or is_out_of_memory(error):
            status = record.OOM
        else:
            status = record.ERROR
        name, message = type(error).__name__, str(error)[:4000]
        send("failure", {"status": status, "error": {"type": name, "message": message}})


def _never(error: BaseException) -> bool:
    """Before the framework is there, only Python itself runs out of memory."""
    return False


def _load_backend(framework: str) -> Any:
    if importlib.util.find_spec(framework) is None:
        raise UnavailableError(f"{framework} is not installed")
    return importlib.import_module(f"harness.backends.{framework}_backend")


def _measure(case: Case, backend: Any, reference_directory: Path, send: Send) -> None:
    measurement = case.measurement
    device, gpu = backend.select_device(measurement.device)
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
    limit_bytes = None
    if measurement.memory_limit_gib is not None:
        limit_bytes = int(measurement.memory_limit_gib * 2**30)
        if device == "gpu":
            backend.limit_device_memory(limit_bytes)
    workload = backend.build(case, inputs_of(case.shape), device)
    if workload.plan is not None:
        send("plan", workload.plan)

    host_limit = limit_bytes if device == "cpu" else None
    # The probes need memory of their own, so they measure what has already fitted.
    with data_limit(host_limit, workload.inputs_bytes):
        outputs = _time(workload, case, send)
    if case.is_loss:
        send("numerics", compare(outputs, workload.to_numpy, reference_directory))
    del outputs  # or the step that is measured would be the second to hold gradients
    if workload.measure_memory is not None:
        figures = workload.measure_memory()
        host_rss = host_rss_growth_bytes(workload.step) if device == "cpu" else None
        send("memory", figures.to_json(host_rss))
    send("finished", True)


def _time(workload: Workload, case: Case, send: Send) -> tuple[Any, ...]:
    """Times steps, then forwards; returns what the last step did."""
    measurement = case.measurement
    timing: dict[str, Any] = {
        "compile_s": workload.compile_s,
        "first_step_s": None,
        "forward_s": None,
        "step_s": None,
    }
    timing["first_step_s"], outputs = _seconds(workload.step)
    send("timing", timing)
    for _ in range(measurement.warmup):
        del outputs  # or two sets of gradients would be alive at once
        outputs = workload.step()
    gc.collect()
    timing["step_s"] = []
    for _ in range(measurement.repeats):
        del outputs
        seconds, outputs = _seconds(workload.step)
        timing["step_s"].append(seconds)
        send("timing", timing)
    if workload.forward is not None:
        workload.forward()
        timing["forward_s"] = [_seconds(workload.forward)[0] for _ in range(measurement.repeats)]
        send("timing", timing)
    return outputs


def _seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
