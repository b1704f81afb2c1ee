"""What this machine's CPU does better in 16 bits than in 32."""

from __future__ import annotations

import functools
from pathlib import Path


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether it multiplies bfloat16 matrices faster than float32 ones.

    With tiles (AMX) it does by far, and AMD's dot products of pairs do by a factor of two
    or more. Intel's without AMX take twice as long as float32: there, as everywhere else,
    operands are better widened, which also leaves more of the digits of a product.
    """
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return _multiplies_bfloat16(text)


def _multiplies_bfloat16(cpuinfo: str) -> bool:
    """From Linux's description of the first core."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    flags = fields.get("flags", "").split()
    return "amx_bf16" in flags or (
        "avx512_bf16" in flags and fields.get("vendor_id") == "AuthenticAMD"
    )
