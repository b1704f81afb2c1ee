"""What a backend makes of a case, for the worker to time and measure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.memory.figures import MemoryFigures


class UnavailableError(Exception):
    """The case cannot run here; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Functions that return when the device has finished.

    - `step()`: the loss and all gradients (for a variant that is no loss, its outputs).
    - `forward()`: the loss alone; None for a variant that is no loss.
    - `measure_memory()`: runs what it needs; None for a variant that is no loss.
    - `to_numpy(array)`: an output of `step` as a NumPy array of the same dtype.
    - `compile_s`: what the compiler took, None without one.
    - `plan`: what the loss says beforehand, None for one that is mute.
    """

    step: Callable[[], tuple[Any, ...]]
    forward: Callable[[], Any] | None
    measure_memory: Callable[[], MemoryFigures] | None
    to_numpy: Callable[[Any], Any]
    inputs_bytes: int
    compile_s: float | None
    plan: dict[str, Any] | None = None
