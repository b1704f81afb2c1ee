"""When two programs that add up the same terms, each in its own order, agree."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

# A sum of n terms carries about sqrt(n) roundings, and no sum of these tests is over more
# than 507 classes: 23 roundings, once for either program.
ROUNDINGS = 46


def assert_same(result: Any, expected: Any) -> None:
    """Same structure, shapes and dtypes; values equal but for the order of the sums.

    Next to the largest entry of an array, since a gradient of 1e-9 beside one of 1 is what
    is left of terms that cancel. A token, class or chunk that is missing, or counted twice,
    or taken from another problem of a batch, is five orders above.
    """
    assert jax.tree.structure(result) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        if not jax.numpy.issubdtype(one.dtype, np.floating):
            np.testing.assert_array_equal(one, other)
            continue
        limit = ROUNDINGS * np.finfo(np.float64 if one.dtype == np.float64 else np.float32).eps
        if one.dtype.itemsize == 2:
            # The float32 sum may round to the other neighbour; so may, before, a term of it.
            limit += 2 * float(jax.numpy.finfo(one.dtype).eps)
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other, rtol=0, atol=limit * np.abs(other).max(initial=0))
