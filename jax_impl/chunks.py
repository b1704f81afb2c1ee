"""A loop over one axis in chunks of one static size, with nothing padded and nothing masked.

What the chunks do not divide is a chunk of its own at the end: the body is traced twice,
and in each of the chunks there is nothing that must be left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, Shaped

Carry = TypeVar("Carry")


class Chunk(NamedTuple):
    """Rows `start .. start + size` of an axis."""

    start: Int32[Array, ""]
    size: int

    def part(self, inner: Chunk) -> Chunk:
        """A chunk of this chunk, as one of the whole axis."""
        return Chunk(self.start + inner.start, inner.size)

    def rows(self) -> Int32[Array, " size"]:
        return self.start + lax.iota(jnp.int32, self.size)

    def take(self, array: Array, axis: int = 0) -> Array:
        start = self.start
        if is_widened(array):
            # Tied to the step of the loop, or the compiler would change the whole array
            # before the loop instead of one slice of it in each step.
            array, start = lax.optimization_barrier((array, start))
        rows = lax.dynamic_slice_in_dim(bits(array), start, self.size, axis)
        return lax.bitcast_convert_type(rows, array.dtype)

    def put(self, array: Array, rows: Array, axis: int = 0) -> Array:
        return lax.dynamic_update_slice_in_dim(array, rows, self.start, axis)


def fold_chunks(
    length: int, size: int, body: Callable[[Carry, Chunk], Carry], carry: Carry
) -> Carry:
    """`carry = body(carry, chunk)` for every chunk of an axis, by `lax.scan`.

    The scan is not unrolled: the program, and the time to compile it, do not grow
    with the axis.
    """
    count, rest = divmod(length, size)
    if count == 1:
        carry = body(carry, Chunk(jnp.int32(0), size))
    elif count > 1:

        def step(carry: Carry, index: Int32[Array, ""]) -> tuple[Carry, None]:
            return body(carry, Chunk(index * size, size)), None

        carry = lax.scan(step, carry, jnp.arange(count, dtype=jnp.int32))[0]
    return body(carry, Chunk(jnp.int32(count * size), rest)) if rest else carry


class Kept(NamedTuple):
    """What was made of an axis, as one block or chunk by chunk."""

    chunks: Shaped[Array, "chunks T C"] | None
    rest: Shaped[Array, "T rest"]
    """of the chunk at the end, or the whole where there are no others"""

    def take(self, chunk: Chunk) -> Shaped[Array, "T C"]:
        """The columns of one of the chunks that were kept, or of any if all is one block."""
        if self.chunks is None:
            return lax.dynamic_slice_in_dim(self.rest, chunk.start, chunk.size, 1)
        if self.chunks.shape[2] != chunk.size:
            return self.rest
        index = chunk.start // chunk.size
        return lax.dynamic_index_in_dim(self.chunks, index, keepdims=False)


def keep_chunks(
    length: int,
    size: int,
    make: Callable[[Chunk], Shaped[Array, "T C"]],
    body: Callable[[Carry, Shaped[Array, "T C"], Chunk], Carry],
    carry: Carry,
) -> tuple[Kept, Carry]:
    """Makes the columns of every chunk, folds `body` over them, and keeps them."""
    if length <= size:
        whole = Chunk(jnp.int32(0), length)
        block = make(whole)
        return Kept(None, block), body(carry, block, whole)

    def step(state: tuple[Array, Array, Carry], chunk: Chunk) -> tuple[Array, Array, Carry]:
        chunks, rest, carry = state
        block = make(chunk)
        if chunk.size == size:
            chunks = lax.dynamic_update_index_in_dim(chunks, block, chunk.start // size, 0)
        else:
            rest = block
        return chunks, rest, body(carry, block, chunk)

    block = jax.eval_shape(lambda: make(Chunk(jnp.int32(0), size)))
    nothing = (
        jnp.zeros((length // size, *block.shape), block.dtype),
        jnp.zeros((len(block), length % size), block.dtype),
    )
    chunks, rest, carry = fold_chunks(length, size, step, (*nothing, carry))
    return Kept(chunks, rest), carry


def bits(array: Array) -> Array:
    """The same bits, as integers where the dtype is a 16-bit float and the device a CPU.

    XLA's CPU compiler widens 16-bit floats: to take slices of such an array it would
    make a float32 copy of the whole, and to put a slice into one, a copy each time.
    It leaves integers alone.
    """
    return lax.bitcast_convert_type(array, jnp.uint16) if is_widened(array) else array


def is_widened(array: Array) -> bool:
    """Whether XLA would make a 16-bit array wider: see `bits`."""
    is_16_bit = jnp.issubdtype(array.dtype, jnp.floating) and array.dtype.itemsize == 2
    return is_16_bit and jax.default_backend() == "cpu"
