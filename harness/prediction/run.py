"""What the cases of a run will need, with the references that their shapes want."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cases import SWEEP, Case, Shape
from harness.prediction.duration import reference_s
from harness.prediction.fit import Prediction, is_unavailable, predict_case
from harness.prediction.speed import flops_per_s


def predict_cases(cases: Sequence[Case]) -> list[tuple[Prediction, float]]:
    """For each case what it needs, and its seconds with those of the reference of its shape."""
    known: set[Shape] = set()
    found = []
    for case in cases:
        prediction = predict_case(case, flops_per_s(case.measurement.device, case.shape.dtype))
        seconds = prediction.seconds
        if case.shape not in known and (seconds_more := answer_s(case)) > 0:
            known.add(case.shape)
            seconds += seconds_more
        found.append((prediction, seconds))
    return found


def answer_s(case: Case) -> float:
    """Of the process that works out the reference; 0 where none is wanted."""
    if case.mode != SWEEP or not case.is_loss or is_unavailable(case):
        return 0.0
    device = case.measurement.device
    return reference_s(case.shape, device, flops_per_s(device, "float64"))
