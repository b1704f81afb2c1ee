"""What a backend makes of a case, for the worker to time and measure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.memory.anatomy import Anatomy
from harness.memory.figures import MemoryFigures

OUTPUT_NAMES = ("loss", "gradient of hidden", "gradient of weight")
"""Of the step of a loss."""


class UnavailableError(Exception):
    """The case cannot run here; the message says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Functions that return when the device has finished.

    - `step()`: the loss and all gradients (for a variant that is no loss, its outputs).
    - `forward()`: the loss alone; None for a variant that is no loss.
    - `measure_memory()`: runs what it needs; None for a variant that is no loss.
    - `dissect()`: what a step holds and when; None for a variant that is no loss.
    - `trace(directory)`: writes the framework's own profile of one step there.
    - `is_out_of_memory(error)`: whether the framework says that memory was refused.
    - `to_numpy(array)`: an output of `step` as a NumPy array of the same dtype.
    - `compile_s`: what the compiler took, None without one.
    - `plan`: what the loss says beforehand, None for one that is mute.
    - `parts`: sizes in bytes that the step is known to ask for at once, and what they are.
    """

    step: Callable[[], tuple[Any, ...]]
    forward: Callable[[], Any] | None = None
    measure_memory: Callable[[], MemoryFigures] | None = None
    dissect: Callable[[], Anatomy] | None = None
    trace: Callable[[Path], None]
    is_out_of_memory: Callable[[BaseException], bool]
    to_numpy: Callable[[Any], Any]
    inputs_bytes: int
    compile_s: float | None = None
    plan: dict[str, Any] | None = None
    parts: Mapping[int, str] = field(default_factory=dict)
