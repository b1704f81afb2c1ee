"""Loads what a dotted name stands for, when it is wanted."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from harness.workload import UnavailableError

_OURS = ("harness", "jax_impl", "loss_spec", "torch_impl")


class UnsupportedError(Exception):
    """A target has no such option; the message names it."""


def load_target(target: str) -> Callable[..., Any]:
    """The function that "module:function" names.

    Raises `UnavailableError` when a package that it needs is not installed, and when it
    is other people's and cannot be imported. Where ours fails otherwise, that is a defect
    and goes up as it is.
    """
    module_name, _, function_name = target.partition(":")
    try:
        return getattr(_import(module_name), function_name)
    except ModuleNotFoundError as error:
        if _is_ours(error.name or ""):
            raise
        raise UnavailableError(f"{target} needs {error.name}, which is not installed") from error
    except Exception as error:
        if _is_ours(module_name):
            raise
        raise UnavailableError(f"{target} cannot be imported: {in_one_line(error)}") from error


def in_one_line(error: Exception) -> str:
    """What an error is, and the first line of what it says."""
    first_line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first_line[:200]}"


def _is_ours(module_name: str) -> bool:
    return module_name.partition(".")[0] in _OURS


def _import(module_name: str) -> ModuleType:
    found = _attempt(module_name)
    if isinstance(found, Exception):
        raise found
    return found


def forget_attempts() -> None:
    """For whoever changes what can be imported."""
    _attempt.cache_clear()


@functools.cache
def _attempt(module_name: str) -> ModuleType | Exception:
    """Once: a second attempt at a broken package may get further, and fail otherwise."""
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        return error
