"""Every test that takes `framework` runs once for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.evaluation import Framework


@pytest.fixture(params=["jax", "torch"], scope="session")
def framework(request: pytest.FixtureRequest) -> Iterator[Framework]:
    """The losses of a framework, imported here and not before."""
    found = Framework(request.param)
    with found.adapter.settings():
        yield found


@pytest.fixture
def both_frameworks() -> Iterator[tuple[Framework, Framework]]:
    """Those of JAX and PyTorch."""
    both = Framework("jax"), Framework("torch")
    with both[0].adapter.settings(), both[1].adapter.settings():
        yield both
