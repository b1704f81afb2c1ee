"""How fast this machine multiplies matrices, as far as a parent without a framework can tell."""

from __future__ import annotations

import time
from functools import cache

import numpy as np

_SIZE = 2048
_TRIES = 5
_ENOUGH_S = 0.25
# A GPU's is not known before a framework asks it. Of a recent one in a data center.
_GPU_FLOPS_PER_S = {"float64": 30e12, "float32": 40e12, "float16": 400e12, "bfloat16": 400e12}


@cache
def flops_per_s(device: str, dtype: str) -> float:
    """Of a large matmul, about: NumPy's own on a CPU, a guess on a GPU."""
    if device != "cpu":
        return _GPU_FLOPS_PER_S[dtype]
    matrix = np.ones((_SIZE, _SIZE), np.float64 if dtype == "float64" else np.float32)
    tries_s = [_seconds(matrix)]
    while len(tries_s) < _TRIES and sum(tries_s) < _ENOUGH_S:
        tries_s.append(_seconds(matrix))
    # Most CPUs widen 16-bit numbers first.
    return 2 * _SIZE**3 / min(tries_s) / (1.5 if dtype in ("float16", "bfloat16") else 1.0)


def _seconds(matrix: np.ndarray) -> float:
    start = time.perf_counter()
    matrix @ matrix
    return time.perf_counter() - start
