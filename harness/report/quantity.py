"""What a plot against the vocabulary shows of each record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.report.formats import duration, size
from harness.report.measures import Record, Spread, memory_bytes, step_time
from harness.report.series import Series


@dataclass(frozen=True)
class Quantity:
    """A figure of a record, how it is written, and the bound it can be held against."""

    name: str
    title: str
    axis_label: str
    value: Callable[[Record], Spread | None]
    text: Callable[[float], str]
    base: int
    """Of the log axis: 2 for bytes, 10 for seconds."""
    bound: Callable[[Record], float | None] | None = None
    bound_label: str = ""

    def shows(self, record: Record) -> bool:
        return self.value(record) is not None


def _memory(name: str) -> Callable[[Record], Spread | None]:
    def value(record: Record) -> Spread | None:
        # Zero bytes have no place on a log axis, and no step leaves nothing behind.
        count = memory_bytes(record, name)
        return Spread(count, count, count) if count and count > 0 else None

    return value


PEAK_MEMORY = Quantity(
    name="peak_memory",
    title="Peak memory of one step",
    axis_label="peak, inputs included",
    value=_memory("peak"),
    text=size,
    base=2,
)
ADDITIONAL_MEMORY = Quantity(
    name="additional_memory",
    title="Memory beyond the inputs of one step",
    axis_label="peak less inputs",
    value=_memory("additional"),
    text=size,
    base=2,
    bound=lambda record: memory_bytes(record, "gradients"),
    bound_label="gradients, which any loss returns",
)
STEP_TIME = Quantity(
    name="step_time",
    title="Time of one step, forward and backward",
    axis_label="median, bars from fastest to slowest",
    value=step_time,
    text=duration,
    base=10,
)


def bounds(quantity: Quantity, series: Sequence[Series]) -> dict[int, float]:
    """The lower bound at each vocabulary: the least that any of the records reports."""
    least: dict[int, float] = {}
    for each in series if quantity.bound is not None else ():
        for record in each.results:
            value = quantity.bound(record) if quantity.bound is not None else None
            if value:
                vocab_size = record["vocab_size"]
                least[vocab_size] = min(value, least.get(vocab_size, value))
    return dict(sorted(least.items()))
