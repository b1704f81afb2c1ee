"""The device that the suite is about: `--device=cpu`, the default, or `--device=gpu`.

On the CPU also where there is a GPU. With a GPU both frameworks must be on it, or nothing
runs: a test that was meant for it must not pass somewhere else. What a framework reads of
the environment is set before a test, or a fixture, loads one.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

from harness.conformance.runner import device_environment
from harness.workload import UnavailableError

HERE = Path(__file__).parent
FOR_A_GPU = ("conformance", "gpu", "jax_impl", "torch_impl")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", choices=("cpu", "gpu"), default="cpu", help="Where the losses run: cpu or gpu."
    )
    parser.addoption(
        "--done",
        type=Path,
        metavar="FILE",
        help="Tests to leave out, one a line; those that pass, or are skipped, are added.",
    )


def pytest_configure(config: pytest.Config) -> None:
    device = config.getoption("device")
    os.environ |= device_environment(device)
    # The process that the others report to.
    if config.getoption("done") is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Done(config.getoption("done")))
    if device == "gpu":
        for framework in ("torch", "jax"):
            _expect_gpu(framework)
        # PyTorch's own, of a backward whose thread has not used the GPU before.
        config.addinivalue_line("filterwarnings", "ignore:Attempting to run cuBLAS:UserWarning")


class Done:
    """Writes down what need not be run again, so that a suite goes on where it was stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped or (report.when == "call" and report.passed):
            with self._path.open("a") as file:
                print(report.nodeid, file=file)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    path = config.getoption("done")
    if path is None or not path.exists():
        return
    done = set(path.read_text().splitlines())
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in done])
    items[:] = [item for item in items if item.nodeid not in done]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.config.getoption("device") == "cpu":
        return
    if item.path.relative_to(HERE).parts[0] not in FOR_A_GPU:
        pytest.skip(f"about the CPU; with --device=gpu there are {', '.join(FOR_A_GPU)}")
    for mark in item.iter_markers("cpu_only"):
        (reason,) = mark.args
        pytest.skip(f"CPU only: {reason}")


def _expect_gpu(framework: str) -> None:
    backend: Any = importlib.import_module(f"harness.backends.{framework}_backend")
    try:
        backend.select_device("gpu")
    except (UnavailableError, RuntimeError) as error:
        raise pytest.UsageError(f"{framework}: {error}") from error
