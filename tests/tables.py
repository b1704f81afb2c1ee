"""Tests over a grid of parameters, and which of its rows are left to `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any

import pytest
from allpairspy import AllPairs

slow = pytest.mark.slow("one more of a kind that the fast tier has seen")
optimized = pytest.mark.optimized("what users get, as XLA compiles it for them")


def grid(**axes: Mapping[str, Any] | Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrises a test by every combination of the axes' values.

    The fast tier takes a pairwise cover of them: any two values of two axes meet in one of its
    rows. The other rows are marked slow. A mapping names its values in the tests' ids.
    """
    named = {
        name: list(values.items() if isinstance(values, Mapping) else ((str(v), v) for v in values))
        for name, values in axes.items()
    }
    covering = set(cover(*(range(len(values)) for values in named.values())))
    rows = []
    for indices in product(*(range(len(values)) for values in named.values())):
        chosen = [values[index] for values, index in zip(named.values(), indices, strict=True)]
        rows.append(
            pytest.param(
                *(value for _, value in chosen),
                id="-".join(name for name, _ in chosen),
                marks=() if indices in covering else slow,
            )
        )
    return pytest.mark.parametrize(tuple(named), rows)


def cover(*axes: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Few rows with a value of each axis, in which every pair of values of two axes occurs."""
    values = [list(axis) for axis in axes]
    if len(values) < 2:
        return list(product(*values))
    return [tuple(row) for row in AllPairs(values)]
