"""What depends on the kind of CPU, as older kinds than this machine's have it.

Matmul libraries choose their kernels by the CPU's instructions, and we choose by them whether to
widen operands. The environment can limit a library to fewer, so the tests that depend on them run
again in limited processes. Instructions that the CPU lacks cannot be emulated, so newer kinds are
skipped; the CPU's own kind is that of the ordinary run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from loss_spec.cpu import matmul_instructions
from tests.tables import slow

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "tests").rglob("test_*.py")
    if "cpu_kind" in path.read_text() and path != Path(__file__)
)


class Kind(NamedTuple):
    """A kind of CPU: its instructions, and the limits that make any newer one like it."""

    instructions: str
    onednn: str
    """`ONEDNN_MAX_CPU_ISA`"""
    xla: str
    """`--xla_cpu_max_isa`"""
    pytorch: str | None = None
    """`ATEN_CPU_CAPABILITY`"""


# The oldest first. AMX, the newest, is nobody's older kind.
OLDER_KINDS = {
    "AVX2": Kind("avx2", "AVX2", "AVX2", "avx2"),
    "AVX-512": Kind("avx512", "AVX512_CORE", "AVX512"),
    "AVX-512 with bfloat16": Kind("avx512_bf16", "AVX512_CORE_BF16", "AVX512_BF16"),
}


def limited(kind: Kind, cache: Path) -> dict[str, str]:
    """The environment of a process that is to see no more than that kind.

    `torch.compile` keeps programs on disk, and would load one that was made for vectors of another
    width: it writes past the end of its buffers.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_max_isa={kind.xla}".strip()
    environment = {
        **os.environ,
        "ONEDNN_MAX_CPU_ISA": kind.onednn,
        "XLA_FLAGS": flags,
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
    }
    if kind.pytorch is not None:
        environment["ATEN_CPU_CAPABILITY"] = kind.pytorch
    return environment


# In bfloat16: float16 is widened on every kind, and wider dtypes have other kernels.
@pytest.mark.parametrize(
    "tests",
    [
        pytest.param("cpu_kind and not slow", id="fast"),
        pytest.param("cpu_kind and slow", id="slow", marks=slow),
    ],
)
@pytest.mark.parametrize("kind", OLDER_KINDS.values(), ids=OLDER_KINDS)
def test_as_an_older_kind(
    kind: Kind, tests: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    kinds = [None, *(each.instructions for each in OLDER_KINDS.values()), "amx"]
    here = matmul_instructions("torch")
    if here == kind.instructions:
        pytest.skip("the suite itself has run as this kind")
    if kinds.index(here) < kinds.index(kind.instructions):
        pytest.skip(f"neither this CPU nor what oneDNN may use of it has {kind.instructions}")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *FILES]
    if pytestconfig.getoption("xla_optimized"):
        command.append("--xla_optimized")
    run = subprocess.run(
        [*command, "-m", tests, "-k", "bfloat16"],
        capture_output=True, text=True, cwd=ROOT, env=limited(kind, tmp_path), timeout=900,
        check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr


def test_files_with_such_tests_are_found() -> None:
    assert {"tests/torch_impl/test_cpu_kernels.py", "tests/jax_impl/test_workspace.py"} < set(FILES)
