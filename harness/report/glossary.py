"""The memory words of the tables, and how each framework's figures were taken."""

from __future__ import annotations

from collections.abc import Sequence

from harness.report.measures import Record
from harness.report.naming import probes

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


def glossary(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Words with their meanings, the probes of these records last."""
    taken = [(f"probe, {framework}", probe) for framework, probe in probes(records)]
    return [*MEMORY_WORDS, *OTHER_WORDS, *taken]
