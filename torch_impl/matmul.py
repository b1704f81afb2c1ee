"""Matrix products that add up, and come out, in at least float32."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from loss_spec.cpu import multiplies_bfloat16
from torch_impl.buffers import Buffer
from torch_impl.chunks import pieces


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """float64 for float64, float32 for everything narrower."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def operand_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype in which operands of some dtype are multiplied.

    16-bit ones stay as they are where that is faster, so that they stay on tensor cores;
    on most CPUs it is not, and they are widened tile by tile.
    """
    if device.type != "cpu" or (dtype == torch.bfloat16 and _cpu_multiplies_bfloat16()):
        return dtype
    return accumulation_dtype(dtype)


def matmul_into(
    out: Float[Tensor, "a c"],
    left: Float[Tensor, "a b"],
    right: Float[Tensor, "b c"],
    *,
    accumulate: bool,
    room: Buffer | None = None,
    exact: bool = False,
) -> None:
    """`out = left @ right`, or `out += left @ right`; `out` has the accumulation dtype.

    PyTorch's CPU kernels add 16-bit products up in float32 but round what they return:
    there the product goes through `room`, of its size and the operands' dtype, and with
    `exact` what was rounded off is had by a second product, less the first.
    """
    beta = 1 if accumulate else 0
    if left.dtype == out.dtype:
        torch.addmm(out, left, right, beta=beta, out=out)
    elif room is None:
        torch.addmm(out, left, right, out_dtype=out.dtype, beta=beta, out=out)
    else:
        product = room.view(*out.shape)
        torch.mm(left, right, out=product)
        if accumulate:
            _add_narrow_(out, product)
        else:
            out.copy_(product)
        if exact:
            torch.addmm(product, left, right, beta=-1, out=product)
            _add_narrow_(out, product)


def _add_narrow_(total: Float[Tensor, "a c"], narrow: Float[Tensor, "a c"]) -> None:
    """In pieces: on a CPU PyTorch widens what it adds in a buffer of that size."""
    for rows in pieces(total):
        total[rows] += narrow[rows]


def _cpu_multiplies_bfloat16() -> bool:
    """Without oneDNN, PyTorch's own kernels take several times as long as in float32."""
    has_onednn = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return has_onednn and multiplies_bfloat16("torch")
