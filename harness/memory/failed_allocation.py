"""The allocation that failed: how large it was, what it was for, and who asked for it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from pathlib import Path

from harness.cases import Shape
from loss_spec import DTYPE_BYTES

_ROOT = Path(__file__).resolve().parents[2]
_UNITS = {"": 1, "bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_UNITS |= {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30}
_SIZE = re.compile(
    r"(?:tried to allocate|allocating|allocate) (?P<number>[\d.]+) ?(?P<unit>[A-Za-z]*)", re.I
)


def failed_allocation(error: BaseException, shape: Shape, parts: Mapping[int, str]) -> str:
    """E.g. "512 MiB, as much as [N, V] in float32; standard (torch_impl/standard.py:34)".

    `parts` names sizes that the program is known to ask for. Empty where the error says
    nothing of an allocation and no line of a loss asked for one.
    """
    words = []
    if (size := _size_bytes(str(error))) is not None:
        words.append(f"{size / 2**20:,.1f} MiB{_what(size, shape, parts)}")
    if asked_by := _asked_by(error):
        words.append(asked_by)
    return "; ".join(words)


def _size_bytes(message: str) -> int | None:
    found = _SIZE.search(message)
    if found is None or found["unit"] not in _UNITS:
        return None
    return round(float(found["number"]) * _UNITS[found["unit"]])


def _what(size: int, shape: Shape, parts: Mapping[int, str]) -> str:
    if size in parts:
        return f", {parts[size]}"
    n, v, d = shape.num_tokens, shape.vocab_size, shape.hidden_dim
    for name, elements in (("[N, V]", n * v), ("[V, D]", v * d), ("[N, D]", n * d)):
        for dtype in dict.fromkeys((shape.dtype, "float32", "float64")):
            # An allocator may round up.
            if 0 <= size - elements * DTYPE_BYTES[dtype] <= max(4096, size // 1000):
                return f", as much as {name} in {dtype}"
    return ""


def _asked_by(error: BaseException) -> str:
    """The innermost line of a loss; the backward pass is called from no such line."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    ours = [
        frame
        for frame in frames
        if (path := Path(frame.filename)).is_relative_to(_ROOT)
        and _is_of_a_loss(path.relative_to(_ROOT))
    ]
    in_backward = any(frame.name == "_engine_run_backward" for frame in frames)
    after = [frame.name for frame in frames].index("_engine_run_backward") if in_backward else 0
    inner = [frame for frame in ours if not in_backward or frames.index(frame) > after]
    if inner:
        path = Path(inner[-1].filename).relative_to(_ROOT)
        return f"{inner[-1].name} ({path}:{inner[-1].lineno})"
    return "the backward pass" if in_backward else ""


def _is_of_a_loss(path: Path) -> bool:
    return path.parts[0] not in ("harness", ".venv") or path.parts[:2] == ("harness", "variants")
