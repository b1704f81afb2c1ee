"""What the arrays of one call must look like, checked before any work is done."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

FLOAT_DTYPES = ("float16", "bfloat16", "float32", "float64")
INTEGER_DTYPES = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
DTYPE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


class ArraySpec(NamedTuple):
    """Shape and dtype name of an array of either framework."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The sizes of one call: N tokens, D features, V classes, and the input dtype."""

    token_shape: tuple[int, ...]
    num_tokens: int
    hidden_dim: int
    vocab_size: int
    dtype: str


def check_arrays(
    *,
    hidden: ArraySpec,
    weight: ArraySpec,
    labels: ArraySpec,
    bias: ArraySpec | None = None,
    class_weight: ArraySpec | None = None,
    token_weight: ArraySpec | None = None,
    vocab_axis: int = 0,
) -> Problem:
    """Returns the `Problem` that the arrays describe.

    hidden [..., D], weight [V, D] (vocab_axis=0) or [D, V] (vocab_axis=1),
    labels [...], bias [V], class_weight [V], token_weight [...]; the last three may be
    None. hidden, weight and bias share one of `FLOAT_DTYPES`; class_weight and
    token_weight have any of them, labels any of `INTEGER_DTYPES`.

    Raises `TypeError` for a wrong dtype and `ValueError` for a wrong shape, each
    naming the argument, what was expected and what was got.
    """
    _check_float("hidden", hidden)
    if not hidden.shape:
        raise ValueError("hidden: expected shape [..., D], got a scalar")
    _check_dtype("weight", weight.dtype, hidden.dtype)
    if labels.dtype not in INTEGER_DTYPES:
        raise TypeError(f"labels: expected an integer dtype, got {labels.dtype}")

    *token_shape, hidden_dim = hidden.shape
    layout = "[V, D]" if vocab_axis == 0 else "[D, V]"
    if len(weight.shape) != 2 or weight.shape[1 - vocab_axis] != hidden_dim:
        raise ValueError(
            f"weight: expected shape {layout} with D={hidden_dim} (vocab_axis={vocab_axis}), "
            f"got {list(weight.shape)}"
        )
    vocab_size = weight.shape[vocab_axis]
    if vocab_size == 0:
        raise ValueError(f"weight: expected at least one class, got {list(weight.shape)}")
    if list(labels.shape) != token_shape:
        raise ValueError(
            f"labels: expected shape {token_shape} (hidden without its last axis), "
            f"got {list(labels.shape)}"
        )
    if bias is not None:
        _check_dtype("bias", bias.dtype, hidden.dtype)
        _check_shape("bias", bias.shape, [vocab_size])
    if class_weight is not None:
        _check_float("class_weight", class_weight)
        _check_shape("class_weight", class_weight.shape, [vocab_size])
    if token_weight is not None:
        _check_float("token_weight", token_weight)
        _check_shape("token_weight", token_weight.shape, token_shape, " (that of labels)")
    return Problem(
        token_shape=tuple(token_shape),
        num_tokens=prod(token_shape),
        hidden_dim=hidden_dim,
        vocab_size=vocab_size,
        dtype=hidden.dtype,
    )


def label_error(position: tuple[int, ...], label: int, vocab_size: int) -> ValueError:
    """The error for a label that is neither a class nor ignore_index."""
    where = f"labels[{', '.join(map(str, position))}]" if position else "labels"
    return ValueError(
        f"labels: expected values in [0, {vocab_size}) or ignore_index, got {where} = {label}"
    )


def _check_float(name: str, array: ArraySpec) -> None:
    if array.dtype not in FLOAT_DTYPES:
        raise TypeError(f"{name}: expected dtype {' | '.join(FLOAT_DTYPES)}, got {array.dtype}")


def _check_shape(name: str, got: tuple[int, ...], expected: list[int], why: str = "") -> None:
    if list(got) != expected:
        raise ValueError(f"{name}: expected shape {expected}{why}, got {list(got)}")


def _check_dtype(name: str, got: str, hidden_dtype: str) -> None:
    if got != hidden_dtype:
        raise TypeError(f"{name}: expected dtype {hidden_dtype} (that of hidden), got {got}")
