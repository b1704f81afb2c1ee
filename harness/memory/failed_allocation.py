"""The allocation that failed: how large it was, what it was for, and who asked for it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from harness.cases import Shape
from loss_spec import DTYPE_BYTES

_ENGINE = "_engine_run_backward"
_ROOT = Path(__file__).resolve().parents[2]
_UNITS = {"": 1, "bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_UNITS |= {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}
_SIZE = re.compile(
    r"(?:allocating|allocate|allocate request for) (?P<number>\d+(?:\.\d*)?) ?(?P<unit>[A-Za-z]*)",
    re.I,
)
# PyTorch's allocator on a GPU, which says what it has rounded up.
_GPU_BLOCK_BYTES = 2**21


class _Size(NamedTuple):
    """The bytes of a message, and how many more or fewer it may have been about."""

    size_bytes: float
    rounded_bytes: float


def failed_allocation(error: BaseException, shape: Shape, parts: Mapping[int, str]) -> str:
    """E.g. "512 MiB, as much as [N, V] in float32; standard (torch_impl/standard.py:34)".

    `parts` names sizes that the program is known to ask for. Empty where the error says
    nothing of an allocation and no line of a loss asked for one.
    """
    words = []
    if (size := _size(str(error))) is not None:
        words.append(f"{size.size_bytes / 2**20:,.1f} MiB{_what(size, shape, parts)}")
    if asked_by := _asked_by(error):
        words.append(asked_by)
    return "; ".join(words)


def _size(message: str) -> _Size | None:
    found = _SIZE.search(message)
    if found is None or found["unit"] not in _UNITS:
        return None
    unit = _UNITS[found["unit"]]
    decimals = len(found["number"].partition(".")[2])
    return _Size(float(found["number"]) * unit, unit * 0.5 / 10**decimals if unit > 1 else 0)


def _what(size: _Size, shape: Shape, parts: Mapping[int, str]) -> str:
    """The part, else the array, that comes closest, if one is close enough."""
    if part := _closest(size, parts, round_up_bytes=0):
        return f", {part}"
    n, v, d = shape.num_tokens, shape.vocab_size, shape.hidden_dim
    arrays = {
        elements * DTYPE_BYTES[dtype]: f"{name} in {dtype}"
        for dtype in ("float64", "float32", shape.dtype)
        for name, elements in (("[N, D]", n * d), ("[V, D]", v * d), ("[N, V]", n * v))
    }
    round_up = max(4096, size.size_bytes / 1000, _GPU_BLOCK_BYTES if size.rounded_bytes else 0)
    array = _closest(size, arrays, round_up_bytes=round_up)
    return f", as much as {array}" if array else ""


def _closest(size: _Size, names: Mapping[int, str], *, round_up_bytes: float) -> str | None:
    def excess(needed: int) -> float:
        return size.size_bytes - needed

    close = [
        needed
        for needed in names
        if -size.rounded_bytes <= excess(needed) <= size.rounded_bytes + round_up_bytes
    ]
    return names[min(close, key=lambda needed: abs(excess(needed)))] if close else None


def _asked_by(error: BaseException) -> str:
    """The innermost line of a loss; the backward pass is called from no such line."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if frame.name == _ENGINE:
            return "the backward pass"
        if frame.name == "__init__" or not path.is_relative_to(_ROOT):
            continue  # asked for by who made it
        if is_of_a_loss(path.relative_to(_ROOT)):
            return f"{frame.name} ({path.relative_to(_ROOT)}:{frame.lineno})"
    return ""


def is_of_a_loss(path: Path) -> bool:
    """Whether a file of this checkout is a loss, or what makes one of a peer."""
    if "site-packages" in path.parts:  # of an environment inside the checkout
        return False
    return path.parts[0] != "harness" or path.parts[:2] == ("harness", "variants")
