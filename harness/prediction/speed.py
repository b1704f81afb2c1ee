"""How fast this machine multiplies matrices, as far as a parent without a framework can tell."""

from __future__ import annotations

import time
from functools import cache

import numpy as np

_SIZE = 2048
_TRIES = 5
# A GPU's is not known before a framework asks it. Of a recent one, in float32 and in 16 bits.
_GPU_FLOPS_PER_S = 40e12
_GPU_NARROW_FLOPS_PER_S = 400e12


@cache
def flops_per_s(device: str, dtype: str) -> float:
    """Of a large matmul, about: NumPy's own on a CPU, a guess on a GPU."""
    is_narrow = dtype in ("float16", "bfloat16")
    if device != "cpu":
        return _GPU_NARROW_FLOPS_PER_S if is_narrow else _GPU_FLOPS_PER_S
    matrix = np.ones((_SIZE, _SIZE), np.float64 if dtype == "float64" else np.float32)
    fastest_s = min(_seconds(matrix) for _ in range(_TRIES))
    # Most CPUs widen 16-bit numbers first.
    return 2 * _SIZE**3 / fastest_s / (1.5 if is_narrow else 1.0)


def _seconds(matrix: np.ndarray) -> float:
    start = time.perf_counter()
    matrix @ matrix
    return time.perf_counter() - start
