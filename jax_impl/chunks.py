"""A loop over one axis in chunks of one static size, with nothing padded.

A last chunk that would run over the end starts earlier instead. The rows that it
then sees for a second time are not `fresh`, and whoever adds up must leave them out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int32

Carry = TypeVar("Carry")


class Chunk(NamedTuple):
    """Rows `start .. start + size` of an axis; those before `fresh_from` came before."""

    start: Int32[Array, ""]
    size: int
    fresh_from: Int32[Array, ""]
    is_ragged: bool

    def rows(self) -> Int32[Array, " size"]:
        return self.start + lax.iota(jnp.int32, self.size)

    def fresh(self) -> Bool[Array, " size"]:
        return self.rows() >= self.fresh_from

    def take(self, array: Array, axis: int = 0) -> Array:
        start = self.start
        if _is_widened(array):
            # Tied to the step of the loop, or the compiler would change the whole array
            # before the loop instead of one slice of it in each step.
            array, start = lax.optimization_barrier((array, start))
        rows = lax.dynamic_slice_in_dim(bits(array), start, self.size, axis)
        return lax.bitcast_convert_type(rows, array.dtype)

    def put(self, array: Array, rows: Array, axis: int = 0) -> Array:
        return lax.dynamic_update_slice_in_dim(array, rows, self.start, axis)

    def put_fresh(self, array: Array, rows: Array, axis: int = 0) -> Array:
        """`put`, less the rows that an earlier chunk has put already."""
        if self.is_ragged:
            fresh = jnp.expand_dims(self.fresh(), tuple(i for i in range(array.ndim) if i != axis))
            rows = jnp.where(fresh, rows, self.take(array, axis))
        return self.put(array, rows, axis)


def fold_chunks(
    length: int, size: int, body: Callable[[Carry, Chunk], Carry], carry: Carry
) -> Carry:
    """`carry = body(carry, chunk)` for every chunk of an axis, by `lax.scan`.

    The scan is not unrolled: the program, and the time to compile it, do not grow
    with the axis.
    """
    if length <= size:
        return body(carry, Chunk(jnp.int32(0), length, jnp.int32(0), False))
    is_ragged = length % size != 0

    def step(carry: Carry, index: Int32[Array, ""]) -> tuple[Carry, None]:
        fresh_from = index * size
        start = jnp.minimum(fresh_from, length - size) if is_ragged else fresh_from
        return body(carry, Chunk(start, size, fresh_from, is_ragged)), None

    num_chunks = -(-length // size)
    return lax.scan(step, carry, jnp.arange(num_chunks, dtype=jnp.int32))[0]


def bits(array: Array) -> Array:
    """The same bits, as integers where the dtype is a 16-bit float and the device a CPU.

    XLA's CPU compiler widens 16-bit floats: to take slices of such an array it would
    make a float32 copy of the whole, and to put a slice into one, a copy each time.
    It leaves integers alone.
    """
    return lax.bitcast_convert_type(array, jnp.uint16) if _is_widened(array) else array


def _is_widened(array: Array) -> bool:
    is_16_bit = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize == 2
    return is_16_bit and jax.default_backend() == "cpu"
