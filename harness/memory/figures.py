"""The words for memory, the same for both frameworks; all in bytes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class MemoryFigures:
    """What one step needed. A figure that was not measured is None, never 0.

    - `inputs_bytes`: hidden, weight and labels, resident before the step.
    - `gradients_bytes`: the loss and gradients that the caller keeps.
    - `peak_bytes`: the high-water mark during the step, inputs included.
    - `reserved_bytes`: what the allocator took from the device.
    - `probe`: how the peak was measured.
    - `xla`: XLA's own figures.
    """

    inputs_bytes: int
    gradients_bytes: int
    peak_bytes: int
    probe: str
    reserved_bytes: int | None = None
    xla: dict[str, int] | None = None

    def to_json(self, host_rss_bytes: int | None) -> dict[str, Any]:
        """The record's fields, with the differences that tables show."""
        additional = self.peak_bytes - self.inputs_bytes
        return {
            **asdict(self),
            "additional_bytes": additional,
            "workspace_bytes": additional - self.gradients_bytes,
            "host_rss_bytes": host_rss_bytes,
        }
