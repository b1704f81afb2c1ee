"""The device that the suite is about, how XLA compiles for it, and memory that is given back.

`--device=cpu`, the default, is the CPU also where there is a GPU. With `--device=gpu` both
frameworks must be on one, or nothing runs: a test that was meant for it must not pass somewhere
else. What a framework reads of the environment is set before a test, or a fixture, loads one.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from harness.conformance.runner import device_environment
from harness.memory.host_rss import release_free_memory
from harness.workload import UnavailableError

HERE = Path(__file__).parent
FOR_A_GPU = ("conformance", "gpu", "jax_impl", "torch_impl")

# Most of the suite's time is XLA compiling programs that run once. Without optimisations that
# takes a quarter of the time. XLA ends a process that gives a flag it does not know, and JAX 0.11.1
# removed the flag that saves the most: from there on it takes four fifths.
UNOPTIMIZED = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if Version(version("jaxlib")) < Version("0.11.1"):
    UNOPTIMIZED += " --xla_cpu_use_fusion_emitters=false"
# Of each of the suite's two processes. Most of it is compiled programs.
LARGEST_RESIDENT_BYTES = 3 * 2**29


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", choices=("cpu", "gpu"), default="cpu", help="Where the losses run: cpu or gpu."
    )
    parser.addoption(
        "--xla_optimized",
        action="store_true",
        help="On the CPU: XLA compiles as it does for users, which takes four times as long.",
    )
    parser.addoption(
        "--large", action="store_true", help="Also tests that take more memory than a laptop has."
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
    if device == "cpu" and not config.getoption("xla_optimized"):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {UNOPTIMIZED}".strip()
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


@pytest.fixture(autouse=True, scope="module")
def memory_is_given_back() -> Iterator[None]:
    """Drops the compiled programs of both frameworks once the process is that large."""
    gc.freeze()  # collections would look through all that earlier files have left
    yield
    with open("/proc/self/statm") as statm:
        resident_bytes = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if resident_bytes < LARGEST_RESIDENT_BYTES:
        return
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
    gc.unfreeze()
    gc.collect()
    release_free_memory()


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("large"):
        if not item.config.getoption("large"):
            pytest.skip(f"--large: {mark.args[0]}")
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
