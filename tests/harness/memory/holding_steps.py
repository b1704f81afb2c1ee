"""python -m tests.harness.memory.holding_steps FRAMEWORK: steps of known size, as JSON.

One process measures them all, falling and rising: what an earlier step has freed must not
hide the growth over a later one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from harness.memory.host_rss import host_rss_growth_bytes

MIB = 2**20
SIZES_MIB = (256, 64, 16, 16, 32, 128, 256)

Step = Callable[[], object]


def torch_step(size_bytes: int) -> Step:
    """A quarter is dropped before the worst moment, in the backward pass."""
    import torch

    floats = size_bytes // 4
    hidden = torch.ones(floats // 4, requires_grad=True)

    def step() -> object:
        dropped = [torch.ones(floats // 64) for _ in range(16)]
        del dropped
        exponentials = hidden.exp()  # kept for the backward
        held = torch.ones(floats // 2)
        (gradient,) = torch.autograd.grad(exponentials.sum(), hidden)
        return gradient, held

    return step


def jax_step(size_bytes: int) -> Step:
    """Half are results, a piece each, and half a temporary of the last program."""
    import jax
    import jax.numpy as jnp

    floats = size_bytes // 4

    def carried_by_a_loop(times: jax.Array) -> jax.Array:
        ones = jnp.ones(floats // 2)
        return jax.lax.fori_loop(0, times, lambda _, carried: carried + 1, ones).sum()

    fill = jax.jit(lambda value: jnp.full(floats // 32, value)).lower(1.0).compile()
    last = jax.jit(carried_by_a_loop).lower(2).compile()

    def step() -> object:
        held = [jax.block_until_ready(fill(1.0)) for _ in range(16)]
        return held, jax.block_until_ready(last(2))

    return step


def main() -> None:
    make_step = {"torch": torch_step, "jax": jax_step}[sys.argv[1]]
    sizes = [mib * MIB for mib in SIZES_MIB]
    found = [(size_bytes, host_rss_growth_bytes(make_step(size_bytes))) for size_bytes in sizes]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
