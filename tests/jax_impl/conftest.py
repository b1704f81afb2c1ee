"""What every test of the JAX loss runs under."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def strict_promotion() -> Iterator[None]:
    """No dtype changes unless the code says so."""
    import jax  # when the environment is set that it reads

    with jax.numpy_dtype_promotion("strict"):
        yield
