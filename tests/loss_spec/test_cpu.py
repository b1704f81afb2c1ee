"""Which CPUs are taken to multiply bfloat16 faster than float32."""

from __future__ import annotations

import pytest

from loss_spec.cpu import _multiplies_bfloat16, multiplies_bfloat16


@pytest.mark.parametrize(
    ("vendor", "flags", "expected"),
    [
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16", True),
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("AuthenticAMD", "avx2 fma", False),
    ],
)
def test_by_vendor_and_instructions(vendor, flags, expected):
    core = f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: {flags}\n"
    assert _multiplies_bfloat16(f"{core}\n{core}") == expected


def test_elsewhere_it_does_not():
    """An ARM core's description has neither field."""
    assert not _multiplies_bfloat16("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert not _multiplies_bfloat16("")


def test_this_machine_has_an_answer():
    assert multiplies_bfloat16() in (True, False)
