"""Loads what a dotted name stands for, when it is wanted."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from harness.workload import UnavailableError

_OURS = ("harness", "jax_impl", "loss_spec", "torch_impl")


class UnsupportedError(Exception):
    """A target has no such option; the message names it."""


def load_target(target: str) -> Callable[..., Any]:
    """The function that "module:function" names.

    Raises `UnavailableError` when a package that it needs is not installed. Any other
    failure to import is a defect and goes up as it is.
    """
    module_name, _, function_name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OURS:
            raise
        raise UnavailableError(f"{target} needs {error.name}, which is not installed") from error
    return getattr(module, function_name)
