"""Which instructions a framework multiplies 16-bit matrices with on this CPU, and whether they
are faster there than in 32 bits.

PyTorch's matmuls are oneDNN's, JAX's YNNPACK's. Each asks the processor what it has. oneDNN can
be held to less, by `ONEDNN_MAX_CPU_ISA`; YNNPACK cannot: XLA's `--xla_cpu_max_isa` holds only for
what XLA compiles itself.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

# Each with the flags, in Linux's names, that oneDNN asks for beyond those of the one before.
_NEEDED = {
    "avx2": {"avx2"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"},
    "avx512_bf16": {"avx512_vnni", "avx512_bf16"},
    "amx": {"avx512_fp16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16"},
}

# The newest that each value of `ONEDNN_MAX_CPU_ISA` allows. Any other value allows them all.
_LIMITS = {
    "sse41": None,
    "avx": None,
    "avx2": "avx2",
    "avx2_vnni": "avx2",
    "avx2_vnni_2": "avx2",
    "avx512_core": "avx512",
    "avx512_core_vnni": "avx512",
    "avx512_core_bf16": "avx512_bf16",
    "avx512_core_fp16": "avx512_bf16",
    "avx10_1_512": "avx512_bf16",
    "avx10_2": "avx512_bf16",
    "avx10_2_512": "avx512_bf16",
}


@functools.cache
def matmul_instructions(framework: str) -> str | None:
    """The newest of "avx2", "avx512", "avx512_bf16" and "amx" that the framework's matmuls use.

    None where they use none of them. The environment is read once, as oneDNN does when it is
    first used.
    """
    return _matmul_instructions(framework, _cpuinfo(), os.environ)


@functools.cache
def multiplies_bfloat16(framework: str) -> bool:
    """Whether the framework multiplies bfloat16 matrices faster than float32 ones.

    With tiles (AMX) it does by far, and AMD's dot products of pairs do by a factor of two or
    more. Intel's without AMX take twice as long as float32, and without any it takes from twice
    to eighty times as long: there operands are better widened, which also leaves more of the
    digits of a product.
    """
    return _multiplies_bfloat16(matmul_instructions(framework), _cpuinfo())


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""


def _multiplies_bfloat16(newest: str | None, cpuinfo: str) -> bool:
    is_amd = _first_core(cpuinfo).get("vendor_id") == "AuthenticAMD"
    return newest == "amx" or (newest == "avx512_bf16" and is_amd)


def _matmul_instructions(
    framework: str, cpuinfo: str, environment: Mapping[str, str]
) -> str | None:
    flags = set(_first_core(cpuinfo).get("flags", "").split())
    limit: str | None = "amx"
    if framework == "torch":
        # The second name is older, and counts where the first says nothing.
        value = environment.get("ONEDNN_MAX_CPU_ISA") or environment.get("DNNL_MAX_CPU_ISA", "")
        limit = _LIMITS.get(value.lower(), "amx")
    newest = None
    for name, needed in _NEEDED.items():
        if newest == limit or not needed <= flags:
            break
        newest = name
    return newest


def _first_core(cpuinfo: str) -> dict[str, str]:
    """The fields of Linux's description of it."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields
