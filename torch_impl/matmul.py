"""Matrix products that add up, and come out, in at least float32."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def matmul_into(
    out: Float[Tensor, "a c"],
    left: Float[Tensor, "a b"],
    right: Float[Tensor, "b c"],
    *,
    accumulate: bool,
) -> None:
    """`out = left @ right`, or `out += left @ right`; `out` has the accumulation dtype.

    16-bit operands stay as they are where the device can add them up in float32, so
    that they stay on tensor cores. PyTorch's CPU kernels cannot: they round the
    product to 16 bits, so there the two tiles are widened first.
    """
    beta = 1 if accumulate else 0
    if left.dtype == out.dtype:
        torch.addmm(out, left, right, beta=beta, out=out)
    elif left.device.type == "cpu":
        torch.addmm(out, left.to(out.dtype), right.to(out.dtype), beta=beta, out=out)
    else:
        torch.addmm(out, left, right, out_dtype=out.dtype, beta=beta, out=out)
