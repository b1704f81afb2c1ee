"""python -m tests.harness.memory.limited_step FRAMEWORK SIZE_MIB: a step under a limit.

64 MiB of inputs are there before, and 256 are allowed in all. Prints "ran" or "out of memory";
what the framework raises that is no lack of memory goes through.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from harness.memory.limit import data_limit

MIB = 2**20
INPUTS_MIB, LIMIT_MIB = 64, 256
FLOATS_A_MIB = MIB // 4


def torch_array(size_mib: int) -> Any:
    import torch

    return torch.ones(size_mib * FLOATS_A_MIB)


def jax_array(size_mib: int) -> Any:
    import jax
    import jax.numpy as jnp

    return jax.block_until_ready(jnp.ones(size_mib * FLOATS_A_MIB))


def numpy_array(size_mib: int) -> Any:
    return np.ones(size_mib * FLOATS_A_MIB, np.float32)


def main() -> None:
    framework, size_mib = sys.argv[1], int(sys.argv[2])
    array = {"torch": torch_array, "jax": jax_array, "numpy": numpy_array}[framework]
    failures: Any = MemoryError
    inputs = array(INPUTS_MIB)
    try:
        with data_limit(LIMIT_MIB * MIB, inputs.nbytes):
            array(size_mib)
    except Exception as error:
        if framework != "numpy":
            backend = importlib.import_module(f"harness.backends.{framework}_backend")
            if not backend.is_out_of_memory(error):
                raise
        elif not isinstance(error, failures):
            raise
        print("out of memory")
    else:
        print("ran")
    array(LIMIT_MIB)  # the limit is gone afterwards


if __name__ == "__main__":
    main()
