"""What every test of the PyTorch loss runs under."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

# PyTorch is imported by the fixtures, when the environment is set that it reads.


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """With arrays this small a second thread does nothing but wait."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def random_numbers() -> None:
    """What a test draws does not depend on the tests before it."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def default_device(pytestconfig: pytest.Config) -> Iterator[None]:
    """What a test makes is on the device that the suite is about."""
    import torch

    if pytestconfig.getoption("device") == "cpu":
        yield
        return
    torch.set_default_device("cuda")
    yield
    torch.set_default_device(None)


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    """Nothing that a test compiles is there for the next one."""
    import torch

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
