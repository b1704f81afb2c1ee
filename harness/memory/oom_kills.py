"""How many processes the kernel has killed for want of memory: only it knows why it killed."""

from __future__ import annotations

from pathlib import Path


def kernel_oom_kills(root: Path = Path("/")) -> int:
    """Of our own control group where there is one (a container), else of the machine.

    The machine's count would take the kill of a neighbour for one of ours.
    """
    for path in (_events_of_own_group(root), root / "proc/vmstat"):
        for line in _lines(path):
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def _events_of_own_group(root: Path) -> Path:
    groups = [line.partition("::")[2] for line in _lines(root / "proc/self/cgroup")]
    own = next((group for group in groups if group), "/")
    return root / "sys/fs/cgroup" / own.lstrip("/") / "memory.events"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
