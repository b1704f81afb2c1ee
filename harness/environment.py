"""Where the figures come from."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np


def describe_host() -> dict[str, Any]:
    """What is the same for every case of a run: versions, processor, revision."""
    return {
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "ml_dtypes": ml_dtypes.__version__,
        },
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "cores": usable_cores()},
        "git_revision": _git_revision(),
    }


def usable_cores() -> int:
    """Cores that this process may run on, which a container can make fewer than there are."""
    return len(os.sched_getaffinity(0))


def has_nvidia_gpu() -> bool:
    """Whether `nvidia-smi` answers and lists a GPU."""
    return bool(_output(["nvidia-smi", "-L"]))


def describe_gpu() -> str | None:
    """Name, memory in use and in all, and driver of the first GPU, None without one."""
    asked = "name,memory.used,memory.total,driver_version"
    answer = _output(["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"])
    if not answer:
        return None
    name, used, total, driver = answer.splitlines()[0].split(", ")
    return f"{name}, {used} of {total} in use, driver {driver}"


def gpu_memory_bytes() -> int | None:
    """All memory of the first GPU, None without one."""
    answer = _output(["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"])
    first = answer.split()[0] if answer else ""
    return int(first) * 2**20 if first.isdecimal() else None  # some GPUs answer [N/A]


def host_memory_bytes() -> int:
    """What this machine has, or its container may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError):
            text = Path(path).read_text().strip()
            if text.isdecimal():
                total = min(total, int(text))
    return total


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git_revision() -> str | None:
    here = str(Path(__file__).parent)
    revision = _output(["git", "-C", here, "rev-parse", "--short=12", "HEAD"])
    if not revision:
        return None
    changed = _output(["git", "-C", here, "status", "--porcelain", "--untracked-files=no"])
    return f"{revision} with changes" if changed else revision


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
