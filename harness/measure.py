"""What a worker does with a workload, by the mode of its case."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.cases import ANATOMY, BREAKING_POINT, SWEEP, Case
from harness.memory.host_rss import host_rss
from harness.memory.limit import data_limit
from harness.reference import compare
from harness.targets import in_one_line
from harness.workload import Workload

Send = Callable[[str, Any], None]


class WrongLossError(Exception):
    """A loss that is not a number; nothing that it leads to is a result."""


class OverLimitError(MemoryError):
    """What failed under the memory limit, for whatever reason it gave, and runs without it."""


def measure(
    case: Case,
    workload: Workload,
    send: Send,
    *,
    reference: Path | None,
    trace: Path,
    host_limit: int | None,
) -> None:
    """Sends sections as they are found. `host_limit`: bytes for the arrays of a step on a CPU."""
    if case.mode == SWEEP:
        # The probes need memory of their own, so they measure what has already fitted.
        with limited(workload, host_limit):
            outputs = _time(workload, case, send)
        if case.is_loss and reference is not None:
            send("numerics", compare(outputs, workload.to_numpy, reference))
        del outputs  # or the step that is measured would be the second to hold gradients
        figures = workload.measure_memory() if workload.measure_memory is not None else None
        if figures is not None:
            send("memory", figures.to_json(None))
        _trace(workload, case, send, trace)
        # Last: what runs after it allocates more slowly.
        if figures is not None and case.measurement.device == "cpu":
            send("memory", figures.to_json(host_rss(workload.step)))
    elif case.mode == ANATOMY:
        workload.step()  # what is done only once is not part of a step
        assert workload.dissect is not None
        send("anatomy", workload.dissect().to_json())
        _trace(workload, case, send, trace)
    elif case.mode == BREAKING_POINT:
        with limited(workload, host_limit):
            loss = _try(workload, send)
        if not math.isfinite(loss):  # a wrong one does not count as fitting
            raise WrongLossError(f"expected a finite loss, got {loss}")


@contextmanager
def limited(workload: Workload, limit_bytes: int | None) -> Iterator[None]:
    """The limit, and a second opinion on what fails under it.

    Not every library says that it was refused memory: oneDNN and YNNPACK only say that an
    operation failed. What then runs without the limit has failed for want of memory.
    """
    try:
        with data_limit(limit_bytes, workload.inputs_bytes):
            yield
    except Exception as error:
        if limit_bytes is None or workload.is_out_of_memory(error) or not _runs(workload):
            raise
        raise OverLimitError("runs without the memory limit") from error


def _runs(workload: Workload) -> bool:
    try:
        workload.step()
    except Exception:
        return False
    return True


def _trace(workload: Workload, case: Case, send: Send, directory: Path) -> None:
    """A profile that cannot be had is no reason to lose what was measured."""
    if case.measurement.trace:
        try:
            workload.trace(directory)
            send("trace", {"directory": directory.name, "error": None})
        except Exception as error:
            send("trace", {"directory": None, "error": in_one_line(error)})


def _time(workload: Workload, case: Case, send: Send) -> tuple[Any, ...]:
    """Times steps, then forwards; returns what the last step did."""
    measurement = case.measurement
    timing = _new_timing(workload)
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


def _try(workload: Workload, send: Send) -> float:
    """One step, of which is wanted whether it fits; returns its loss."""
    timing = _new_timing(workload)
    timing["first_step_s"], outputs = _seconds(workload.step)
    send("timing", timing)
    return float(workload.to_numpy(outputs[0]))


def _new_timing(workload: Workload) -> dict[str, Any]:
    empty = {"first_step_s": None, "forward_s": None, "step_s": None}
    return {"compile_s": workload.compile_s, **empty}


def _seconds(function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result
