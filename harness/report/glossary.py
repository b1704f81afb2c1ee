"""The memory words of the tables, and how each framework's figures were taken."""

from __future__ import annotations

from collections.abc import Sequence

from harness.cases import SWEEP
from harness.report.measures import STREAM, Record, of_mode
from harness.report.naming import probes
from harness.report.roofline import ceilings

MEMORY_WORDS: tuple[tuple[str, str], ...] = (
    ("inputs", "hidden, weight, labels and options, resident before the step"),
    ("gradients", "outputs of the step that the caller keeps; any loss returns them"),
    ("peak", "high-water mark during the step, inputs included"),
    ("additional", "peak less inputs: the column `beyond inputs`"),
    ("workspace", "additional less gradients: what the loss needs for itself"),
    ("reserved", "what the allocator took from the device"),
    ("host_rss", "growth of the process's resident high-water mark, read from the kernel"),
)

OTHER_WORDS: tuple[tuple[str, str], ...] = (
    ("standard", "the loss from the full tokens x vocabulary logits"),
    ("chunked", "the loss that never holds those logits at once"),
    ("two_pass", "ours, the logits computed again for the gradients"),
    ("one_pass", "ours, the gradients formed while the logits are there"),
    ("floor", "three bare matmuls (6 NVD operations): time only, no loss is computed"),
)

STREAM_WORDS: tuple[tuple[str, str], ...] = (
    ("stream", "one pass over the weight, read, negated and written: time only, no loss"),
)

ROOFLINE_WORDS: tuple[tuple[str, str], ...] = (
    ("NVD", "tokens x vocabulary x hidden: one matmul of a loss is 2 NVD operations"),
    ("matmuls", "of a step: the time of its matmuls if they are as fast as those of the floor"),
    ("rest", "of a step: its time less that of its matmuls"),
    ("B/logit", "bytes for each of the N x V logits, had the rest gone by as fast as the stream"),
    ("bound by", "matmuls where they are more than half of a step, else passes: the rest"),
)


def glossary(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Words with their meanings, the probes of these records last."""
    taken = [(f"probe, {framework}", probe) for framework, probe in probes(records)]
    swept = of_mode(records, SWEEP)
    return [
        *MEMORY_WORDS,
        *OTHER_WORDS,
        *(STREAM_WORDS if any(record["variant"] == STREAM for record in swept) else ()),
        *(ROOFLINE_WORDS if ceilings(swept) else ()),
        *taken,
    ]
