"""What a mode makes of a preset, and which variants it can measure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from harness.cases import ANATOMY, BREAKING_POINT, SWEEP
from harness.environment import host_memory_bytes
from harness.presets import Preset
from harness.variants import EVERY_VARIANT

# Of a CPU's memory: the limit of a search that was given none. The system needs some too.
_SHARE = 0.75


def shapes_of(mode: str, axis: str, preset: Preset) -> Preset:
    """The preset with the shapes of this mode.

    An anatomy is of one shape, the largest. A search starts with the smallest: it grows.
    """
    if mode == ANATOMY:
        return dataclasses.replace(preset, vocab_sizes=(max(preset.vocab_sizes),))
    if mode == BREAKING_POINT and axis == "vocab_size":
        return dataclasses.replace(preset, vocab_sizes=(min(preset.vocab_sizes),))
    if mode == BREAKING_POINT:
        largest = (max(preset.vocab_sizes),)
        tokens = preset.batch_size * preset.seq_len
        return dataclasses.replace(preset, batch_size=1, seq_len=tokens, vocab_sizes=largest)
    return preset


def variants_of(mode: str, names: Sequence[str]) -> list[str]:
    """Those that the mode can measure: nothing is to be seen of a floor but its time."""
    return [name for name in names if mode == SWEEP or EVERY_VARIANT[name].is_loss]


def default_limit_gib(mode: str, device: str) -> float | None:
    """What bounds a search that was given no limit; a GPU bounds it by itself."""
    if mode != BREAKING_POINT or device != "cpu":
        return None
    return math.floor(_SHARE * host_memory_bytes() / 2**30 * 10) / 10
