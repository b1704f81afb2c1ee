"""A step of the JAX loss on the GPU.

Each function runs in a process of its own, and loads JAX there: with the kernels that XLA
takes when it tunes, which most tests do without.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from harness.conformance.runner import UNTUNED
from tests.gpu_profiles.device_profile import Event, profile_jax


class Compiled(NamedTuple):
    """The text of the program, and bytes."""

    hlo: str
    temp_bytes: int
    output_bytes: int
    predicted_bytes: int
    """of the workspace, by the plan"""


def compiled(shape: tuple[int, int, int], dtype: str, options: dict[str, Any]) -> Compiled:
    """Loss and gradients of hidden and weight."""
    from jax_impl import plan

    arrays = _arrays(shape, dtype)
    program = _compile(arrays, options)
    memory = program.memory_analysis()
    return Compiled(
        program.as_text(),
        memory.temp_size_in_bytes,
        memory.output_size_in_bytes,
        plan(*arrays, **options).workspace_bytes,
    )


def profiled(
    shape: tuple[int, int, int], dtype: str, options: dict[str, Any]
) -> tuple[list[Event], str]:
    """The events of a step that has run before, and the text of its program."""
    arrays = _arrays(shape, dtype)
    program = _compile(arrays, options)
    import jax

    def step() -> object:
        return jax.block_until_ready(program(*arrays))

    for _ in range(2):
        step()
    return profile_jax(step), program.as_text()


def profiled_copy() -> list[Event]:
    """What a program does that looks at a number."""
    _tune()
    import jax
    import jax.numpy as jnp
    import numpy as np

    double = jax.jit(lambda array: 2 * array)
    array = jax.block_until_ready(double(jnp.ones(1000)))
    return profile_jax(lambda: np.asarray(double(array)))


def _arrays(shape: tuple[int, int, int], dtype: str) -> tuple[Any, Any, Any]:
    """hidden, weight and labels on the GPU; a seventh of the tokens is ignored."""
    _tune()
    import jax

    num_tokens, hidden_dim, vocab_size = shape
    keys = jax.random.split(jax.random.key(0), 3)
    scale = hidden_dim**-0.25  # for logits of ordinary size
    hidden = scale * jax.random.normal(keys[0], (num_tokens, hidden_dim))
    weight = scale * jax.random.normal(keys[1], (vocab_size, hidden_dim))
    labels = jax.random.randint(keys[2], (num_tokens,), 0, vocab_size).at[::7].set(-100)
    return jax.block_until_ready((hidden.astype(dtype), weight.astype(dtype), labels))


def _compile(arrays: tuple[Any, Any, Any], options: dict[str, Any]) -> Any:
    import jax
    import jax.numpy as jnp

    from jax_impl import linear_cross_entropy

    def total(*arrays: Any) -> Any:
        result = linear_cross_entropy(*arrays, **options)
        loss, aux = result if options.get("return_aux") else (result, None)
        return jnp.sum(loss), aux

    step = jax.value_and_grad(total, (0, 1), has_aux=True)
    return jax.jit(step).lower(*arrays).compile()


def _tune() -> None:
    flags = os.environ.pop("XLA_FLAGS", "").replace(UNTUNED, "").strip()
    if flags:  # blanks alone would be the name of a file to XLA
        os.environ["XLA_FLAGS"] = flags
