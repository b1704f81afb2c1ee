"""What every test of a head runs under, beside strict promotion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    import jax  # when the environment is set that it reads

    with jax.enable_x64(True):
        yield


@pytest.fixture
def standard_promotion() -> Iterator[None]:
    """Optax adds integers to floats."""
    import jax

    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def compile_once() -> Callable[..., Any]:
    """Compiles a function for arguments like these, unless the other kind had the same program."""
    import jax

    compiled: dict[str, Any] = {}

    def compile_for(function: Callable[..., Any], *arguments: Any) -> Any:
        # What is not used stays an argument: the programs' text tells their signatures apart.
        lowered = jax.jit(function, keep_unused=True).lower(*arguments)
        program = lowered.as_text()
        if program not in compiled:
            compiled[program] = lowered.compile()
        return compiled[program]

    return compile_for
