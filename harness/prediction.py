"""What a case will need, worked out before anything runs, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass

from harness.breaking_point import next_size
from harness.cases import BREAKING_POINT, Case
from harness.predicted_memory import limit_bytes, peak_bytes
from harness.predicted_time import start_s, worker_s


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
        return Prediction(peak_bytes(case), limit_bytes(case), start_s(case))
    if case.mode == BREAKING_POINT:
        return _predict_search(case, flops_per_s)
    return Prediction(peak_bytes(case), limit_bytes(case), worker_s(case, flops_per_s))


def _predict_search(case: Case, flops_per_s: float) -> Prediction:
    """Goes through the search as if each size ended as predicted."""
    ran: list[int] = []
    failed: list[int] = []
    seconds = 0.0
    while (size := next_size(ran, failed, getattr(case.shape, case.axis))) is not None:
        probe = case.probe(size)
        peak, limit = peak_bytes(probe), limit_bytes(probe)
        seconds += worker_s(probe, flops_per_s)
        if peak is None:
            break
        (ran if peak <= limit else failed).append(size)
    return Prediction(peak_bytes(case), limit_bytes(case), seconds, max(ran, default=None))
