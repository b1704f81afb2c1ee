"""What a case will need, worked out before anything runs: memory, time, and whether it fits.

Memory is exact for our losses, whose plan says it, and for full logits, of which it is known
how many copies each loss holds. Times are good to a factor of two: they order a progress bar.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.breaking_point import next_size
from harness.cases import BREAKING_POINT, SWEEP, Case, Shape
from harness.environment import gpu_memory_bytes, host_memory_bytes
from harness.plans import plan_of
from loss_spec import DTYPE_BYTES

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
        return gradients + _logits(shape, shape.dtype)
    if case.plan_target is not None:
        plan = plan_of(case.framework, case.measurement.device, shape, case.options)
        return gradients + plan.workspace_bytes
    held = _FULL_LOGITS.get((case.framework, case.variant))
    return None if held is None else held(shape)


def _logits(shape: Shape, dtype: str) -> int:
    return shape.num_tokens * shape.vocab_size * DTYPE_BYTES[dtype]


def _wide(shape: Shape) -> str:
    return "float64" if shape.dtype == "float64" else "float32"


def _torch_full_logits(shape: Shape) -> int:
    """log_softmax, its gradient and that of the logits; at the end the gradients and one."""
    three = 3 * _logits(shape, _wide(shape))
    return max(three, _logits(shape, shape.dtype) + shape.gradients_bytes)


def _torch_narrow_logits(shape: Shape) -> int:
    """The same, all of it in the dtype of hidden."""
    one = _logits(shape, shape.dtype)
    return max(3 * one, one + shape.gradients_bytes)


def _torch_fused_logits(shape: Shape) -> int:
    return _logits(shape, shape.dtype) + shape.gradients_bytes


def _xla_full_logits(shape: Shape) -> int:
    """Logits and their exponentials; of 16-bit operands one is widened for its matmul."""
    return shape.gradients_bytes + 2 * _logits(shape, _wide(shape)) + _widened(shape)


def _xla_optax(shape: Shape) -> int:
    return _xla_full_logits(shape) + _logits(shape, shape.dtype)


def _widened(shape: Shape) -> int:
    return shape.vocab_size * shape.hidden_dim * 4 if DTYPE_BYTES[shape.dtype] < 4 else 0


_FULL_LOGITS: dict[tuple[str, str], Callable[[Shape], int]] = {
    ("torch", "standard"): _torch_full_logits,
    ("torch", "linear_cross_entropy"): _torch_narrow_logits,
    ("torch", "compiled"): _torch_fused_logits,
    ("torch", "cut_cross_entropy"): _torch_fused_logits,
    ("jax", "standard"): _xla_full_logits,
    ("jax", "optax"): _xla_optax,
}


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
