"""What a step holds: the buffers alive at its peak, and the bytes alive at every moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

INPUT = "input"
GRADIENT = "gradient"
WORKSPACE = "workspace"
UNUSED = "unused"

Moment = tuple[float, int]
"""Seconds since the step began, and the bytes alive from then on."""

_FEWEST_PARTS = 1000
_BINS = 800


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """Memory that was alive at the peak.

    - `kind`: "input", "gradient" (what the caller keeps, the loss too), "workspace", or
      "unused": assigned to the program, but to nothing that was alive just then.
    - `name`: which input or gradient, or the operation whose result it holds.
    - `asked_by`: the line of the source that wanted it.
    """

    kind: str
    name: str
    size_bytes: int
    asked_by: str = ""


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """One step. `source` says what the figures come from; the buffers add up to the peak."""

    source: str
    peak_bytes: int
    buffers: tuple[Buffer, ...]
    timeline: tuple[Moment, ...]
    step_s: float
    backward_s: float | None
    """When the backward pass begins."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def by_size(buffers: Sequence[Buffer]) -> tuple[Buffer, ...]:
    """The largest first; those of less than a thousandth of the whole become one a kind."""
    least = sum(buffer.size_bytes for buffer in buffers) / _FEWEST_PARTS
    large = [buffer for buffer in buffers if buffer.size_bytes >= least]
    lumps = []
    for kind in (INPUT, GRADIENT, WORKSPACE, UNUSED):
        small = [each for each in buffers if each.kind == kind and each.size_bytes < least]
        if total := sum(each.size_bytes for each in small):
            name = small[0].name if len(small) == 1 else f"{len(small)} small buffers"
            lumps.append(Buffer(kind=kind, name=name, size_bytes=total))
    return (*sorted(large, key=lambda buffer: -buffer.size_bytes), *lumps)


def thinned(timeline: Sequence[Moment], step_s: float) -> tuple[Moment, ...]:
    """A timeline short enough to be kept: no bin of time loses its least and its most."""
    if len(timeline) <= 4 * _BINS or step_s <= 0:
        return tuple(timeline)
    bins: dict[int, list[Moment]] = {}
    for moment in timeline:
        bins.setdefault(min(int(moment[0] / step_s * _BINS), _BINS - 1), []).append(moment)
    kept: list[Moment] = []
    for moments in bins.values():
        extremes = {
            moments[0],
            min(moments, key=lambda moment: moment[1]),
            max(moments, key=lambda moment: moment[1]),
            moments[-1],
        }
        kept += sorted(extremes)
    return tuple(kept)
