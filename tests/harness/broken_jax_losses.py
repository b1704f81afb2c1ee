"""Losses for JAX that end in ways of their own. Targets of workers."""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

import jax
import numpy as np

from jax_impl import standard_linear_cross_entropy


def refusing_company(hidden: Any, weight: Any, labels: Any) -> Any:
    """Right, but only where the other framework has not been loaded."""
    if "torch" in sys.modules:
        raise RuntimeError("a jax worker has loaded torch")
    return standard_linear_cross_entropy(hidden, weight, labels)


def dying_of_the_limit(hidden: Any, weight: Any, labels: Any) -> Any:
    """As a kernel ends that does not look whether it was given the memory that it asked for."""
    zero = jax.pure_callback(_zero, jax.ShapeDtypeStruct((), np.float32))
    return standard_linear_cross_entropy(hidden, weight, labels) + zero


def hiding_the_limit(hidden: Any, weight: Any, labels: Any) -> Any:
    """As YNNPACK ends, which only says that an operation has failed."""
    zero = jax.pure_callback(_zero_or_error, jax.ShapeDtypeStruct((), np.float32))
    return standard_linear_cross_entropy(hidden, weight, labels) + zero


def _zero() -> np.float32:
    if _is_limited():
        os.abort()
    return np.float32(0)


def _zero_or_error() -> np.float32:
    if _is_limited():
        raise ArithmeticError("operation failed")
    return np.float32(0)


def _is_limited() -> bool:
    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY
