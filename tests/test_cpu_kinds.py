"""What depends on the kind of CPU, as older kinds than this machine's have it.

The libraries that multiply choose their kernels by the instructions that they see, and so do we
whether to widen operands. They can be held to fewer: the tests that depend on it run once more in
processes that are. What a processor has not cannot be emulated, so no machine runs them all; the
kind that it is without limits the suite has run.
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
    if "mark.cpu_kind" in path.read_text() and path != Path(__file__)
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


# From the oldest to the newest.
KINDS = {
    "AVX2": Kind("avx2", "AVX2", "AVX2", "avx2"),
    "AVX-512": Kind("avx512", "AVX512_CORE", "AVX512"),
    "AVX-512 with bfloat16": Kind("avx512_bf16", "AVX512_CORE_BF16", "AVX512_BF16"),
    "AMX": Kind("amx", "AVX512_CORE_AMX", "AMX"),
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
    "chosen",
    [
        pytest.param(("-m", "cpu_kind and not slow"), id="marked"),
        pytest.param(("-m", "not cpu_kind or slow"), id="the rest of their files", marks=slow),
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=name, marks=slow if name == "AVX2" else ())
        for name, kind in KINDS.items()
    ],
)
def test_as_an_older_kind(kind: Kind, chosen: tuple[str, ...], tmp_path: Path) -> None:
    kinds = [each.instructions for each in KINDS.values()]
    here = matmul_instructions("torch")
    if here == kind.instructions:
        pytest.skip("the suite itself has run as this kind")
    if here is None or kinds.index(here) < kinds.index(kind.instructions):
        pytest.skip(f"neither this CPU nor what oneDNN may use of it has {kind.instructions}")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *FILES]
    run = subprocess.run(
        [*command, *chosen, "-k", "bfloat16"],
        capture_output=True, text=True, cwd=ROOT, env=limited(kind, tmp_path), check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
