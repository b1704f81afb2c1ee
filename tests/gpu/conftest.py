"""What only a GPU can show: none of it runs without `--device=gpu`."""

from __future__ import annotations

import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.config.getoption("device") != "gpu":
        pytest.skip("needs an NVIDIA GPU: pytest --device=gpu")
