"""XLA: the buffers that the compiler has assigned to a program.

`peak_memory_in_bytes` is not used: it leaves temporaries out on a CPU. What a kernel takes for
itself has no buffer: XLA's CPU compiler may fuse two matmuls and keep what is between them
there. The kernel's resident high-water mark, which stands beside it, would show that.
"""

from __future__ import annotations

from typing import Any

PROBE = "xla buffer assignment"


def assigned_bytes(compiled: Any) -> dict[str, int]:
    """Argument, output, alias and temp bytes of a `jax.stages.Compiled`."""
    analysis = compiled.memory_analysis()
    return {
        name: int(getattr(analysis, f"{name}_size_in_bytes"))
        for name in ("argument", "output", "alias", "temp")
    }


def peak_bytes(assigned: dict[str, int]) -> int:
    """All that the program needs while it runs, arguments included."""
    return assigned["argument"] + assigned["output"] + assigned["temp"] - assigned["alias"]
