"""Seeded inputs, the same bits for every framework."""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray[Any, np.dtype[Any]]

IGNORE_INDEX = -100


class Inputs(NamedTuple):
    """hidden ~ N(0, 1), weight ~ N(0, 1/D), labels uniform: logits are about N(0, 1)."""

    hidden: Float[Array, "N D"]
    weight: Float[Array, "V D"]
    labels: Int[Array, " N"]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of that name; bfloat16 is ml_dtypes', which JAX uses too."""
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def make_inputs(
    *,
    seed: int,
    num_tokens: int,
    hidden_dim: int,
    vocab_size: int,
    dtype: str,
    ignored_fraction: float = 0.0,
) -> Inputs:
    """Draws in float32 (float64 for float64) and rounds once to `dtype`.

    `ignored_fraction` of the labels, spread at random, are `IGNORE_INDEX`.
    """
    generator = np.random.default_rng(seed)
    target = numpy_dtype(dtype)
    drawn: Any = np.float64 if target == np.float64 else np.float32
    hidden = generator.standard_normal((num_tokens, hidden_dim), dtype=drawn)
    weight = generator.standard_normal((vocab_size, hidden_dim), dtype=drawn)
    weight *= drawn(hidden_dim**-0.5)
    labels = generator.integers(0, vocab_size, num_tokens, dtype=np.int32)
    ignored = generator.permutation(num_tokens)[: round(ignored_fraction * num_tokens)]
    labels[ignored] = IGNORE_INDEX
    return Inputs(hidden.astype(target, copy=False), weight.astype(target, copy=False), labels)
