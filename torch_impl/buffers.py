"""Memory that is allocated once and used for every tile."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class Buffer:
    """Room for so many numbers: a contiguous [rows, columns] of any shape that fits."""

    def __init__(self, numel: int, like: Tensor, dtype: torch.dtype) -> None:
        self._numbers = like.new_empty(numel, dtype=dtype)

    def view(self, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
        return self._numbers[: rows * columns].view(rows, columns)
