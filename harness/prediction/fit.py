"""What a case will need, worked out before anything runs, and whether it fits."""

from __future__ import annotations

from dataclasses import dataclass

from harness.breaking_point import next_size
from harness.cases import BREAKING_POINT, Case
from harness.prediction.duration import start_s, worker_s
from harness.prediction.memory import limit_bytes, peak_bytes


@dataclass(frozen=True)
class Prediction:
    """`peak_bytes`: inputs included; None for a loss of which nothing is known."""

    peak_bytes: int | None
    limit_bytes: int
    seconds: float
    in_time: bool
    """Whether its worker, or each of a search, ends before the timeout."""
    largest_fitting: int | None = None
    """Of a search: the size at which it will end, about."""

    @property
    def fits(self) -> bool:
        return self.peak_bytes is None or self.peak_bytes <= self.limit_bytes


def is_unavailable(case: Case) -> bool:
    """Whether it is known already that the case cannot run here."""
    return bool(case.not_on_cpu) and case.measurement.device == "cpu"


def predict_case(case: Case, flops_per_s: float) -> Prediction:
    if is_unavailable(case):
        return Prediction(peak_bytes(case), limit_bytes(case), start_s(case), in_time=True)
    if case.mode == BREAKING_POINT:
        return _predict_search(case, flops_per_s)
    seconds = worker_s(case, flops_per_s)
    in_time = seconds <= case.measurement.timeout_s
    return Prediction(peak_bytes(case), limit_bytes(case), seconds, in_time)


def _predict_search(case: Case, flops_per_s: float) -> Prediction:
    """Goes through the search as if each size ended as predicted.

    A search may end earlier: on a CPU the limit counts what the matmul libraries take, too.
    """
    limit = limit_bytes(case)
    ran: list[int] = []
    failed: list[int] = []
    seconds, in_time = 0.0, True
    while in_time and (size := next_size(ran, failed, getattr(case.shape, case.axis))) is not None:
        probe = case.probe(size)
        peak, probe_s = peak_bytes(probe), worker_s(probe, flops_per_s)
        seconds += probe_s
        if peak is None:
            break
        if peak > limit:  # and ends early
            failed.append(size)
        else:
            ran.append(size)
            in_time = probe_s <= case.measurement.timeout_s
    return Prediction(peak_bytes(case), limit, seconds, in_time, max(ran, default=None))
