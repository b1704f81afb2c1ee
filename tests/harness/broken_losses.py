"""Losses that end in each of the ways in which a case can end. Targets of workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from torch_impl import standard_linear_cross_entropy


def wrong(hidden: Any, weight: Any, labels: Any) -> Any:
    """Right but for the tokens' number: a plausible, wrong loss."""
    return standard_linear_cross_entropy(hidden, weight, labels) * 1.001


def not_a_number(hidden: Any, weight: Any, labels: Any) -> Any:
    return standard_linear_cross_entropy(hidden, weight, labels) * float("nan")


def raising(hidden: Any, weight: Any, labels: Any) -> Any:
    raise ArithmeticError("this loss [does] not work")


def killed(hidden: Any, weight: Any, labels: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def leaving(hidden: Any, weight: Any, labels: Any) -> Any:
    sys.exit(0)


def sleeping(hidden: Any, weight: Any, labels: Any) -> Any:
    if "SLEEPING" in os.environ:
        Path(os.environ["SLEEPING"]).touch()  # for whoever waits until it sleeps
    time.sleep(600)


def out_of_memory_in_cpp(hidden: Any, weight: Any, labels: Any) -> Any:
    """As a C++ library ends that does not catch its allocator's exception."""
    print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr)
    sys.stderr.flush()
    os.abort()


def refusing_company(hidden: Any, weight: Any, labels: Any) -> Any:
    """Right, but only where the other framework has not been loaded."""
    if "jax" in sys.modules:
        raise RuntimeError("a torch worker has loaded jax")
    return standard_linear_cross_entropy(hidden, weight, labels)
