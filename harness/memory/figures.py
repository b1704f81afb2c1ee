"""The words for memory, the same for both frameworks; all in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Reading(NamedTuple):
    """What one probe saw: the high-water mark of a step beyond its inputs."""

    probe: str
    additional_bytes: int


@dataclass(frozen=True, kw_only=True)
class MemoryFigures:
    """What one step needed. A figure that was not measured is None, never 0.

    - `inputs_bytes`: hidden, weight and labels, resident before the step.
    - `gradients_bytes`: the loss and gradients that the caller keeps.
    - `readings`: the high-water mark by every probe there is; the first one counts, the
      others say how far it can be trusted.
    - `reserved_bytes`: what the allocator took from the device.
    - `xla`: XLA's own figures.
    """

    inputs_bytes: int
    gradients_bytes: int
    readings: tuple[Reading, ...]
    reserved_bytes: int | None = None
    xla: dict[str, int] | None = None

    def to_json(self, host_rss: Reading | None) -> dict[str, Any]:
        """The record's fields, with the sums and differences that tables show."""
        probe, additional_bytes = self.readings[0]
        readings = [*self.readings, *([host_rss] if host_rss else [])]
        return {
            "inputs_bytes": self.inputs_bytes,
            "gradients_bytes": self.gradients_bytes,
            "peak_bytes": self.inputs_bytes + additional_bytes,
            "additional_bytes": additional_bytes,
            "workspace_bytes": additional_bytes - self.gradients_bytes,
            "reserved_bytes": self.reserved_bytes,
            "host_rss_bytes": host_rss.additional_bytes if host_rss else None,
            "probe": probe,
            "readings": [reading._asdict() for reading in readings],
            "xla": self.xla,
        }
