"""The lines above and below a table: what its rows share, and how to read its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.report.naming import describe, probe_note, probes
from harness.report.readings import probes_apart_notes
from harness.report.rows import Row

TIME_NOTE = (
    "Times are medians; ± is the farthest sample's distance from the median. "
    "x standard and x floor: step time over that of the full-logits loss and of the three "
    "bare matmuls, same run, framework and shape."
)
ERROR_NOTE = (
    "error / tolerance: of the loss and the two gradients, each against float64, the error "
    "that comes closest to what it may be; above 1 the answer is wrong."
)
TRACE_NOTE = (
    "Profiles of one step of each case are in traces/, a folder for each: PyTorch's for "
    "chrome://tracing or Perfetto, JAX's for XProf."
)


def shared_conditions(rows: Sequence[Row]) -> str:
    """What all rows have in common, for the line above a table."""
    held = {row.conditions for row in rows}
    if len({each.run for each in held}) > 1:
        held = {replace(each, run=None) for each in held}
    if len(held) == 1:
        return describe(next(iter(held)))
    values = {
        "N": {str(each.tokens) for each in held},
        "D": {str(each.hidden_dim) for each in held},
        "dtype": {each.dtype for each in held},
        "device": {each.device or "unknown" for each in held},
    }
    same = [f"{name} = {next(iter(each))}" for name, each in values.items() if len(each) == 1]
    return ", ".join(same) or f"{len(held)} combinations of shape, dtype and device"


def measurement_notes(rows: Sequence[Row]) -> list[str]:
    """How times and memory were taken."""
    if not rows:
        return []
    records = [row.record for row in rows]
    if not probes(records):
        return [TIME_NOTE]
    several = len({probe for _, probe in probes(records)}) > 1
    warning = " Different probes: compare them with care." if several else ""
    memory_note = f"Memory: {probe_note(records)}.{warning}"
    return [TIME_NOTE, memory_note, *probes_apart_notes(records)]
