"""Which CPUs are taken to multiply bfloat16 faster than float32, and within which limits."""

from __future__ import annotations

import pytest

from loss_spec.cpu import _matmul_instructions, _multiplies_bfloat16

AVX2 = "fma avx2"
AVX512 = f"{AVX2} avx512f avx512dq avx512bw avx512vl"
AVX512_BF16 = f"{AVX512} avx512_bf16 avx512_vnni"
AMX = f"{AVX512_BF16} avx_vnni amx_bf16 avx512_fp16 amx_tile amx_int8"
FRAMEWORKS = ("torch", "jax")


def cpuinfo(flags: str, vendor: str = "GenuineIntel") -> str:
    core = f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n"
    return f"{core}\n{core}"


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("vendor", "flags", "newest", "is_faster"),
    [
        ("GenuineIntel", "sse4_1 avx", None, False),
        ("GenuineIntel", AVX2, "avx2", False),
        ("GenuineIntel", AVX512, "avx512", False),
        ("GenuineIntel", AVX512_BF16, "avx512_bf16", False),
        ("GenuineIntel", AMX, "amx", True),
        ("GenuineIntel", AMX.replace("amx_tile", ""), "avx512_bf16", False),
        ("AuthenticAMD", AVX2, "avx2", False),
        ("AuthenticAMD", AVX512, "avx512", False),
        ("AuthenticAMD", AVX512_BF16, "avx512_bf16", True),
        ("AuthenticAMD", f"{AVX2} avx512_bf16", "avx2", False),
    ],
)
def test_by_vendor_and_instructions(vendor, flags, newest, is_faster, framework):
    description = cpuinfo(flags, vendor)
    assert _matmul_instructions(framework, description, {}) == newest
    assert _multiplies_bfloat16(newest, description) == is_faster


@pytest.mark.parametrize(
    ("environment", "newest"),
    [
        ({"ONEDNN_MAX_CPU_ISA": "SSE41"}, None),
        ({"ONEDNN_MAX_CPU_ISA": "AVX"}, None),
        ({"ONEDNN_MAX_CPU_ISA": "AVX2"}, "avx2"),
        ({"ONEDNN_MAX_CPU_ISA": "Avx2_Vnni_2"}, "avx2"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "avx512"),
        ({"ONEDNN_MAX_CPU_ISA": "avx512_core_vnni"}, "avx512"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "avx512_bf16"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_FP16"}, "avx512_bf16"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX10_1_512"}, "avx512_bf16"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}, "amx"),
        ({"ONEDNN_MAX_CPU_ISA": "AVX10_1_512_AMX_FP16"}, "amx"),
        ({"ONEDNN_MAX_CPU_ISA": "DEFAULT"}, "amx"),
        ({"ONEDNN_MAX_CPU_ISA": "no such limit"}, "amx"),
        ({"DNNL_MAX_CPU_ISA": "AVX2"}, "avx2"),
        ({"DNNL_MAX_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": ""}, "avx2"),
        ({"DNNL_MAX_CPU_ISA": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, "avx512"),
        ({"XLA_FLAGS": "--xla_cpu_max_isa=AVX2"}, "amx"),
        ({"ATEN_CPU_CAPABILITY": "avx2"}, "amx"),
    ],
    ids=str,
)
def test_limits_of_the_environment(environment, newest):
    """They are oneDNN's, and no limit gives what the processor has not."""
    assert _matmul_instructions("torch", cpuinfo(AMX), environment) == newest
    assert _matmul_instructions("jax", cpuinfo(AMX), environment) == "amx"
    assert _matmul_instructions("torch", cpuinfo(""), environment) is None


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("description", ["", "processor\t: 0\nFeatures\t: fp asimd bf16\n"])
def test_elsewhere_it_does_not(description, framework):
    """An ARM core's description has neither field, and not every system has one."""
    assert _matmul_instructions(framework, description, {}) is None
    assert not _multiplies_bfloat16(None, description)
