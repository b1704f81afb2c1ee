"""JAX: a loss inside one compiled step."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np

from harness.cases import Case
from harness.environment import usable_cores
from harness.memory import buffer_assignment, device_stats
from harness.memory.figures import MemoryFigures, Reading
from harness.memory.xla_anatomy import xla_anatomy
from harness.plans import plan_of_loss
from harness.targets import load_target
from harness.workload import OUTPUT_NAMES, UnavailableError, Workload
from loss_spec.inputs import Inputs

_NO_MEMORY = (
    "RESOURCE_EXHAUSTED",
    "CUDA_ERROR_OUT_OF_MEMORY",
    "INTERNAL: Failed to allocate",
)


def versions() -> dict[str, str]:
    return {"jax": jax.__version__, "jaxlib": jaxlib.__version__}


def num_threads() -> int:
    # XLA's CPU thread pool has a thread for each core that the process may use.
    return usable_cores()


def select_device(requested: str) -> tuple[str, str | None]:
    """("cpu" | "gpu", name of the GPU or None)."""
    device = jax.devices()[0]
    if requested == "gpu" and device.platform != "gpu":
        raise UnavailableError(f"device=gpu: jax.devices() has {device.platform} only")
    return ("gpu", device.device_kind) if device.platform == "gpu" else ("cpu", None)


def limit_device_memory(limit_bytes: int) -> None:
    """Nothing to do: XLA takes the limit from the environment, which the parent has set."""


def is_out_of_memory(error: BaseException) -> bool:
    return any(words in str(error) for words in _NO_MEMORY)


def build(case: Case, inputs: Inputs, device: str) -> Workload:
    """Puts the inputs on the device and compiles the variant for them."""
    target = load_target(case.target)
    if case.shape.dtype == "float64":
        jax.config.update("jax_enable_x64", True)

    if not case.is_loss:
        arrays = _on_device(inputs.hidden, inputs.weight)
        matmuls, compile_s = _compile(target, *arrays)

        def run_target() -> tuple[Any, ...]:
            return jax.block_until_ready(matmuls(*arrays))

        return Workload(
            step=run_target,
            trace=functools.partial(_trace, run_target),
            is_out_of_memory=is_out_of_memory,
            to_numpy=np.asarray,
            inputs_bytes=sum(array.nbytes for array in arrays),
            compile_s=compile_s,
        )

    shape = case.shape
    arrays = _on_device(
        inputs.hidden.reshape(shape.batch_size, shape.seq_len, shape.hidden_dim),
        inputs.weight,
        inputs.labels.reshape(shape.batch_size, shape.seq_len),
    )

    def loss(hidden: Any, weight: Any, labels: Any) -> Any:
        return target(hidden, weight, labels, **case.options)

    def loss_and_gradients(*arrays: Any) -> tuple[Any, ...]:
        value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(*arrays)
        return value, *gradients

    compiled_step, compile_s = _compile(loss_and_gradients, *arrays)
    assigned = buffer_assignment.assigned_bytes(compiled_step)
    inputs_bytes = sum(array.nbytes for array in arrays)

    @functools.cache  # a step that is only tried or taken apart has no use for it
    def compiled_forward() -> Any:
        return _compile(loss, *arrays)[0]

    def step() -> tuple[Any, ...]:
        return jax.block_until_ready(compiled_step(*arrays))

    def measure_memory() -> MemoryFigures:
        gradients_bytes = sum(output.nbytes for output in step())
        readings = []
        counted = device_stats.peak_bytes(arrays[0].device)
        if counted is not None:
            readings.append(Reading(device_stats.PROBE, counted - inputs_bytes))
        beyond = buffer_assignment.peak_bytes(assigned) - inputs_bytes
        readings.append(Reading(buffer_assignment.PROBE, beyond))
        return MemoryFigures(
            inputs_bytes=inputs_bytes,
            gradients_bytes=gradients_bytes,
            readings=tuple(readings),
            reserved_bytes=device_stats.reserved_bytes(arrays[0].device),
            xla=assigned,
        )

    return Workload(
        step=step,
        forward=lambda: jax.block_until_ready(compiled_forward()(*arrays)),
        measure_memory=measure_memory,
        dissect=functools.partial(
            xla_anatomy,
            loss_and_gradients,
            dict(zip(("hidden", "weight", "labels"), arrays, strict=True)),
            OUTPUT_NAMES,
        ),
        trace=functools.partial(_trace, step),
        is_out_of_memory=is_out_of_memory,
        to_numpy=np.asarray,
        inputs_bytes=inputs_bytes,
        compile_s=compile_s,
        plan=plan_of_loss(case, *arrays),
        parts={assigned["temp"]: "all temporaries of the compiled step"},
    )


def _trace(step: Callable[[], object], directory: Path) -> None:
    """A profile that XProf opens: `xprof --logdir=DIRECTORY`."""
    with jax.profiler.trace(str(directory)):
        step()


def _on_device(*arrays: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return tuple(jax.block_until_ready(jax.device_put(array)) for array in arrays)


def _compile(function: Any, *arrays: Any) -> tuple[Any, float]:
    """The compiled function, and the seconds that tracing and compiling took."""
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arrays).compile()
    return compiled, time.perf_counter() - start
