"""Every test that takes `framework` runs once for each."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest


@pytest.fixture(params=["jax", "torch"], scope="session")
def framework(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The adapter of a framework, imported here and not before."""
    module = adapter(request.param)
    with module.settings():
        yield module


@pytest.fixture
def both_frameworks() -> Iterator[tuple[ModuleType, ModuleType]]:
    """The adapters of JAX and PyTorch."""
    modules = adapter("jax"), adapter("torch")
    with modules[0].settings(), modules[1].settings():
        yield modules


def adapter(name: str) -> ModuleType:
    return importlib.import_module(f"tests.conformance.{name}_adapter")
