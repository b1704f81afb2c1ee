"""What a case will need, worked out before anything runs: memory, time, and whether it fits.

Memory is what the plan of our losses says, and for full logits what they are known to hold;
the tests hold both to the probes. Times are good to a factor of two: they order a progress bar.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.breaking_point import next_size
from harness.cases import BREAKING_POINT, SWEEP, Case, Shape
from harness.environment import gpu_memory_bytes, host_memory_bytes
from harness.full_logits import bytes_beyond_inputs, narrow_logits_bytes
from harness.plans import plan_of

# Beside the matmuls there are passes over the logits.
_OVER_MATMULS = 1.35
_SLOWER = {"linear_cross_entropy_chunked": 2.0}
_COMPILE_S = {"compiled": 8.0, "cut_cross_entropy": 8.0}
_START_S = {"torch": 4.0, "jax": 2.5}
_PROBING_STEPS = 4
_TRIED_STEPS = {BREAKING_POINT: 1}
_DISSECTED_STEPS = 3


@dataclass(frozen=True)
class Prediction:
    """`peak_bytes`: inputs included; None for a loss of which nothing is known."""

    peak_bytes: int | None
    limit_bytes: int
    seconds: float
    largest_fitting: int | None = None
    """Of a search: the size at which it will end."""

    @property
    def fits(self) -> bool:
        return self.peak_bytes is None or self.peak_bytes <= self.limit_bytes


def is_unavailable(case: Case) -> bool:
    """Whether it is known already that the case cannot run here."""
    return bool(case.not_on_cpu) and case.measurement.device == "cpu"


def predict_case(case: Case, flops_per_s: float) -> Prediction:
    if is_unavailable(case):
        return Prediction(peak_bytes(case), limit_bytes(case), _START_S[case.framework])
    if case.mode == BREAKING_POINT:
        return _predict_search(case, flops_per_s)
    seconds = _START_S[case.framework] + _COMPILE_S.get(case.variant, 0.0)
    seconds += _steps(case) * _step_s(case, flops_per_s)
    return Prediction(peak_bytes(case), limit_bytes(case), seconds)


def reference_s(shape: Shape, flops_per_s: float) -> float:
    """For the answer to a shape: in float64, and once more in the arithmetic of its dtype."""
    return 3 * _matmul_flops(shape) / flops_per_s


def limit_bytes(case: Case) -> int:
    """What the arrays of a step may take: the limit that was asked for, or what there is."""
    measurement = case.measurement
    if measurement.memory_limit_gib is not None:
        return int(measurement.memory_limit_gib * 2**30)
    if measurement.device == "gpu" and (total := gpu_memory_bytes()) is not None:
        return total
    return host_memory_bytes()


def peak_bytes(case: Case) -> int | None:
    """The high-water mark of a step, inputs included."""
    beyond = _beyond_inputs(case)
    return None if beyond is None else case.shape.inputs_bytes + beyond


def _beyond_inputs(case: Case) -> int | None:
    shape, gradients = case.shape, case.shape.gradients_bytes
    if not case.is_loss:
        return gradients + narrow_logits_bytes(shape)
    if case.plan_target is not None:
        plan = plan_of(case.framework, case.measurement.device, shape, case.options)
        return gradients + plan.workspace_bytes
    return bytes_beyond_inputs(case.framework, case.variant, shape)


def _matmul_flops(shape: Shape) -> int:
    """6 NVD: logits, dX and dW."""
    return 6 * shape.num_tokens * shape.vocab_size * shape.hidden_dim


def _step_s(case: Case, flops_per_s: float) -> float:
    flops = _matmul_flops(case.shape)
    if case.plan_target is not None:
        device = case.measurement.device
        flops = plan_of(case.framework, device, case.shape, case.options).flops
    return flops * _OVER_MATMULS * _SLOWER.get(case.variant, 1.0) / flops_per_s


def _steps(case: Case) -> float:
    """How many steps the worker makes; a forward is a third of one."""
    if case.mode != SWEEP:
        return _TRIED_STEPS.get(case.mode, _DISSECTED_STEPS)
    measurement = case.measurement
    steps = 1 + measurement.warmup + measurement.repeats
    if case.is_loss:
        return steps + (1 + measurement.repeats) / 3 + _PROBING_STEPS
    return steps


def _predict_search(case: Case, flops_per_s: float) -> Prediction:
    """Goes through the search as if each size ended as predicted."""
    ran: list[int] = []
    failed: list[int] = []
    seconds, peak = 0.0, None
    while (size := next_size(ran, failed, getattr(case.shape, case.axis))) is not None:
        probe = case.probe(size)
        peak, limit = peak_bytes(probe), limit_bytes(probe)
        seconds += _START_S[case.framework] + _step_s(probe, flops_per_s)
        if peak is None:
            break
        (ran if peak <= limit else failed).append(size)
    start = peak_bytes(case)
    return Prediction(start, limit_bytes(case), seconds, max(ran, default=None))
