"""python -m tests.harness.memory.limited_step FRAMEWORK SIZE_MIB...: steps under a limit.

64 MiB of inputs are there before, and 256 are allowed in all. Prints "ran" or "out of memory"
for each; what the framework raises that is no lack of memory goes through.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import numpy as np

from harness.memory.limit import data_limit

MIB = 2**20
INPUTS_MIB, LIMIT_MIB = 64, 256

Step = Callable[[], object]


def torch_step(size_mib: int) -> Step:
    import torch

    return lambda: torch.ones(size_mib * MIB // 4)


def jax_step(size_mib: int) -> Step:
    import jax
    import jax.numpy as jnp

    filled = jax.jit(lambda value: jnp.full(size_mib * MIB // 4, value)).lower(1.0).compile()
    return lambda: jax.block_until_ready(filled(1.0))


def main() -> None:
    framework = sys.argv[1]
    backend = importlib.import_module(f"harness.backends.{framework}_backend")
    make_step = {"torch": torch_step, "jax": jax_step}[framework]
    backend.select_device("cpu")
    inputs = np.ones(INPUTS_MIB * MIB, np.uint8)
    steps = [make_step(int(size)) for size in sys.argv[2:]]  # compiled, as in a worker; none ran
    for step in steps:
        try:
            with data_limit(LIMIT_MIB * MIB, inputs.nbytes):
                step()
        except Exception as error:
            if not backend.is_out_of_memory(error):
                raise
            print("out of memory")
        else:
            print("ran")
    make_step(LIMIT_MIB)()  # the limit is gone afterwards


if __name__ == "__main__":
    main()
