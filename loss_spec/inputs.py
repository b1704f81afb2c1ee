"""Seeded inputs, the same bits for every framework."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jaxtyping import Float, Int

Array = np.ndarray[Any, np.dtype[Any]]

IGNORE_INDEX = -100

# Numbers that one thread draws, and rounds, at a time: NumPy draws a billion in 20 seconds.
_BLOCK_NUMBERS = 2**22


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
    hidden = _normal(generator, (num_tokens, hidden_dim), 1.0, dtype)
    weight = _normal(generator, (vocab_size, hidden_dim), hidden_dim**-0.5, dtype)
    labels = generator.integers(0, vocab_size, num_tokens, dtype=np.int32)
    ignored = generator.permutation(num_tokens)[: round(ignored_fraction * num_tokens)]
    labels[ignored] = IGNORE_INDEX
    return Inputs(hidden, weight, labels)


def _normal(
    generator: np.random.Generator, shape: tuple[int, int], scale: float, dtype: str
) -> Array:
    """Normal numbers times `scale`: a block from the generator, the others from its children."""
    found = np.empty(shape, numpy_dtype(dtype))
    drawn: Any = np.float64 if found.dtype == np.float64 else np.float32
    rows = max(1, _BLOCK_NUMBERS // shape[1])
    starts = range(0, shape[0], rows)

    def fill(start: int, own: np.random.Generator) -> None:
        block = found[start : start + rows]
        numbers = own.standard_normal(block.shape, dtype=drawn)
        block[...] = numbers if scale == 1 else np.multiply(numbers, drawn(scale), out=numbers)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        own = [generator, *generator.spawn(max(len(starts) - 1, 0))]
        list(threads.map(fill, starts, own))
    return found
