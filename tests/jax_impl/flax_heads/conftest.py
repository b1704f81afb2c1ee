"""What every test of a head runs under, beside strict promotion."""

from __future__ import annotations

from collections.abc import Iterator

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
