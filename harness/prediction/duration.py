"""The time that a case will take, good to a factor of two: it orders a progress bar."""

from __future__ import annotations

from harness.cases import ANATOMY, BREAKING_POINT, SWEEP, Case, Shape
from harness.plans import plan_of
from harness.prediction.full_logits import weight_bytes

# Beside the matmuls there are passes over the logits.
_OVER_MATMULS = 1.35
_SLOWER = {"linear_cross_entropy_chunked": 2.0}
_COMPILE_S = {"compiled": 8.0, "cut_cross_entropy": 8.0}
_START_S = {"torch": 4.0, "jax": 2.5}
_PROBING_STEPS = 4
# That are done while a byte of memory goes by.
_FLOPS_PER_BYTE = 20
# To draw a number, write its gradient in float64 and find the error allowed.
_NUMBER_S = 3e-8
_STEPS = {ANATOMY: 3, BREAKING_POINT: 1}


def start_s(case: Case) -> float:
    """Of a worker, until its framework is there."""
    return _START_S[case.framework]


def worker_s(case: Case, flops_per_s: float) -> float:
    """Of the worker of a case, or of one size in a search."""
    compile_s = _COMPILE_S.get(case.variant, 0.0)
    return start_s(case) + compile_s + _steps(case) * _step_s(case, flops_per_s)


def reference_s(shape: Shape, device: str, flops_per_s: float) -> float:
    """For the answer to a shape: in float64, and once more in the arithmetic of its dtype.

    Where a GPU multiplies, what NumPy does beside it takes the time.
    """
    matmuls_s = 3 * _matmul_flops(shape) / flops_per_s
    if device == "cpu":
        return matmuls_s
    numbers = (shape.num_tokens + shape.vocab_size) * shape.hidden_dim
    return _START_S["torch"] + numbers * _NUMBER_S + matmuls_s


def _matmul_flops(shape: Shape) -> int:
    """6 NVD: logits, dX and dW."""
    return 6 * shape.num_tokens * shape.vocab_size * shape.hidden_dim


def _step_s(case: Case, flops_per_s: float) -> float:
    flops = _matmul_flops(case.shape)
    if case.plan_target is not None:
        device = case.measurement.device
        flops = plan_of(case.framework, device, case.shape, case.options).flops
    elif case.variant == "stream":
        flops = _FLOPS_PER_BYTE * 2 * weight_bytes(case.shape)
    return flops * _OVER_MATMULS * _SLOWER.get(case.variant, 1.0) / flops_per_s


def _steps(case: Case) -> float:
    """How many steps the worker makes; a forward is a third of one."""
    if case.mode != SWEEP:
        return _STEPS[case.mode]
    measurement = case.measurement
    steps = 1 + measurement.warmup + measurement.repeats
    if case.is_loss:
        return steps + (1 + measurement.repeats) / 3 + _PROBING_STEPS
    return steps
