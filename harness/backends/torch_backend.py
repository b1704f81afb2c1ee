"""PyTorch, eager: a loss as it is called in a training loop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.profiler import profile

from harness.cases import Case
from harness.memory import allocator_events, cuda_allocator
from harness.memory.figures import MemoryFigures, Reading
from harness.memory.torch_anatomy import torch_anatomy
from harness.plans import plan_of_loss
from harness.targets import load_target
from harness.workload import OUTPUT_NAMES, UnavailableError, Workload
from loss_spec.inputs import Inputs

_NO_MEMORY = (
    "can't allocate memory",
    "bad_alloc",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def num_threads() -> int:
    return torch.get_num_threads()


def select_device(requested: str) -> tuple[str, str | None]:
    """("cpu" | "gpu", name of the GPU or None)."""
    if requested == "cpu":
        _start_threads()
        return "cpu", None
    if not torch.cuda.is_available():
        raise UnavailableError("device=gpu: torch.cuda.is_available() is False")
    return "gpu", torch.cuda.get_device_name()


def _start_threads() -> None:
    """OpenMP starts its threads when they are first wanted: not inside a limit on memory.

    Their stacks would count, and a thread that cannot be started ends the process.
    """
    torch.zeros(2**20).add_(1)


def limit_device_memory(limit_bytes: int) -> None:
    """Lets the caching allocator take no more than that from the GPU."""
    total = torch.cuda.get_device_properties().total_memory
    torch.cuda.set_per_process_memory_fraction(min(limit_bytes / total, 1.0))


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in str(error) for words in _NO_MEMORY
    )


def build(case: Case, inputs: Inputs, device: str) -> Workload:
    """Puts the inputs on the device and binds the variant to them."""
    target = load_target(case.target)
    torch_device = "cuda" if device == "gpu" else "cpu"
    hidden, weight, labels = (to_tensor(array).to(torch_device) for array in inputs)
    if case.labels_dtype:
        labels = labels.to(getattr(torch, case.labels_dtype))
    wait = torch.cuda.synchronize if device == "gpu" else _nothing
    inputs_bytes = hidden.nbytes + weight.nbytes + labels.nbytes

    if not case.is_loss:

        def run_target() -> tuple[Any, ...]:
            outputs = target(hidden, weight)
            wait()
            return outputs

        return Workload(
            step=run_target,
            trace=functools.partial(_trace, run_target),
            is_out_of_memory=is_out_of_memory,
            to_numpy=to_numpy,
            inputs_bytes=inputs_bytes,
        )

    shape = case.shape
    hidden = hidden.view(shape.batch_size, shape.seq_len, shape.hidden_dim).requires_grad_()
    labels = labels.view(shape.batch_size, shape.seq_len)
    weight.requires_grad_()

    def step() -> tuple[Any, ...]:
        loss = target(hidden, weight, labels, **case.options)
        gradients = torch.autograd.grad(loss, (hidden, weight))
        wait()
        return loss.detach(), *gradients

    def forward() -> Any:
        with torch.no_grad():
            loss = target(hidden, weight, labels, **case.options)
        wait()
        return loss

    def measure_memory() -> MemoryFigures:
        gradients_bytes = sum(output.nbytes for output in step())
        readings = []
        if device == "gpu":
            counted = cuda_allocator.peak_allocated_bytes(step)
            readings.append(Reading(cuda_allocator.PROBE, counted))
        listed = allocator_events.peak_allocated_bytes(step, torch_device)
        readings.append(Reading(allocator_events.PROBE, listed))
        return MemoryFigures(
            inputs_bytes=inputs_bytes,
            gradients_bytes=gradients_bytes,
            readings=tuple(readings),
            reserved_bytes=cuda_allocator.reserved_bytes() if device == "gpu" else None,
        )

    arrays = {"hidden": hidden, "weight": weight, "labels": labels}
    return Workload(
        step=step,
        forward=forward,
        measure_memory=measure_memory,
        dissect=functools.partial(torch_anatomy, step, arrays, OUTPUT_NAMES),
        trace=functools.partial(_trace, step),
        is_out_of_memory=is_out_of_memory,
        to_numpy=to_numpy,
        inputs_bytes=inputs_bytes,
        plan=plan_of_loss(case, hidden, weight, labels),
    )


def _trace(step: Callable[[], object], directory: Path) -> None:
    """A Chrome trace: chrome://tracing or ui.perfetto.dev opens it."""
    with profile(profile_memory=True, with_stack=True) as profiler:
        step()
    directory.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(directory / "trace.json.gz"))


def to_tensor(array: np.ndarray[Any, Any]) -> torch.Tensor:
    # PyTorch does not know NumPy's bfloat16: the bits go through an integer view.
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def _nothing() -> None:
    """A CPU has finished when the call returns."""
