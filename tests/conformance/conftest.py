"""Every test that takes `framework` runs once for each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.conformance.evaluation import Framework


@pytest.fixture(params=["jax", "torch"], scope="session")
def framework(request: pytest.FixtureRequest) -> Iterator[Framework]:
    """The losses of a framework, imported here and not before."""
    found = Framework(request.param)
    with _settings(found):
        yield found


@pytest.fixture
def both_frameworks() -> Iterator[tuple[Framework, Framework]]:
    """Those of JAX and PyTorch."""
    both = Framework("jax"), Framework("torch")
    with _settings(both[0]), _settings(both[1]):
        yield both


def _settings(framework: Framework) -> contextlib.AbstractContextManager[None]:
    """Strict promotion in JAX: no dtype changes unless our code says so."""
    if framework.name == "jax":
        import jax

        return jax.numpy_dtype_promotion("strict")
    return framework.adapter.settings()
