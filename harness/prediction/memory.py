"""The memory that a case will need, and how much there is.

What it needs is what the plan of our losses says, and for full logits what they are known to
hold; the tests hold both to the probes. A yardstick holds what it returns, the floor its logits
too. A limit on a CPU counts more: what matmul libraries take, touched or not. That tells at
limits of a few hundred MiB, and in JAX at some GiB.
"""

from __future__ import annotations

from harness.cases import Case
from harness.environment import gpu_memory_bytes, host_memory_bytes
from harness.plans import plan_of
from harness.prediction.full_logits import (
    bytes_beyond_inputs,
    narrow_logits_bytes,
    weight_bytes,
)


def limit_bytes(case: Case) -> int:
    """What a step may take: the limit that was asked for, or what there is."""
    measurement = case.measurement
    if measurement.memory_limit_gib is not None:
        return int(measurement.memory_limit_gib * 2**30)
    if measurement.device == "gpu" and (total := gpu_memory_bytes()) is not None:
        return total
    return host_memory_bytes()


def peak_bytes(case: Case) -> int | None:
    """The high-water mark of a step, inputs included; None where nothing is known of the loss."""
    beyond = _beyond_inputs(case)
    return None if beyond is None else case.shape.inputs_bytes + beyond


def _beyond_inputs(case: Case) -> int | None:
    shape, gradients = case.shape, case.shape.gradients_bytes
    if case.variant == "stream":
        return weight_bytes(shape)
    if not case.is_loss:
        return gradients + narrow_logits_bytes(shape)
    if case.plan_target is not None:
        plan = plan_of(case.framework, case.measurement.device, shape, case.options)
        return gradients + plan.workspace_bytes
    return bytes_beyond_inputs(case.framework, case.variant, shape)
