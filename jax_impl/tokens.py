"""The tokens in blocks, those that count first: a loop over them can end early.

With most labels ignored, as in a fine-tuning batch, the matmuls shrink with the number of
tokens that count, under `jit` and with static shapes: their order and their number are
values, the blocks have one size, and a smaller one for those that do not fill a block.
Hidden is read through the order, block by block, and never copied as a whole.

On a GPU a loop whose length is a value makes the host wait for each of its steps, so there
every token is in a block, as it comes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32, Shaped

from jax_impl.chunks import Chunk, bits, fold_chunks
from jax_impl.labels import IGNORED
from loss_spec import rest_block

Carry = TypeVar("Carry")


class TokenBlock(NamedTuple):
    """Some tokens, and their place among all that are in order."""

    rows: Int32[Array, " T"] | None
    """their place in the arguments, N where there is none; None where that is their place here"""
    start: Int32[Array, ""]
    size: int

    def hidden(self, hidden: Float[Array, "N D"], codes: Int32[Array, " T"]) -> Array:
        """Their rows of hidden, 0 for tokens that are ignored, whatever those hold.

        A logit gradient of 0 times a NaN would be a NaN in the gradient of the weight.
        """
        if self.rows is None:
            block = self.take(hidden)
        else:
            taken = bits(hidden).at[self.rows].get(mode="clip")
            block = lax.bitcast_convert_type(taken, hidden.dtype)
        return jnp.where((codes == IGNORED)[:, None], 0, block)

    def take(self, ordered: Shaped[Array, "M ..."]) -> Shaped[Array, "T ..."]:
        return lax.dynamic_slice_in_dim(ordered, self.start, self.size)

    def put(
        self, ordered: Shaped[Array, "M ..."], block: Shaped[Array, "T ..."]
    ) -> Shaped[Array, "M ..."]:
        return lax.dynamic_update_slice_in_dim(ordered, block, self.start, 0)


class Tokens(NamedTuple):
    """The tokens of a call in order; M >= N is a multiple of the smallest block's size.

    Or as they come, with M = N: where they are one block, and on a GPU.
    """

    codes: Int32[Array, " M"]
    """of the tokens that count, in order, then IGNORED"""
    rows: Int32[Array, " M"] | None
    """their place in the arguments, then N; None where they are as they come"""
    places: Int32[Array, " N"] | None
    """the place of each token of the arguments in the order, M where it is ignored"""
    size: int
    """of a block; what does not fill one goes in blocks of `rest_block(size)`"""

    def order(self, values: Float[Array, " N"], ignored: float = 0.0) -> Float[Array, " M"]:
        """In order, with a value of their own for tokens that are ignored or only fill."""
        if self.rows is None:
            return values
        return values.at[self.rows].get(mode="fill", fill_value=ignored)

    def restore(self, ordered: Shaped[Array, "M ..."]) -> Shaped[Array, "N ..."]:
        """As in the arguments, 0 where ignored."""
        if self.places is None:
            return ordered
        return ordered.at[self.places].get(mode="fill", fill_value=0)

    def fold(self, body: Callable[[Carry, TokenBlock], Carry], carry: Carry) -> Carry:
        """`carry = body(carry, block)` for every block in which a token counts, or for all."""
        all_rows = self.rows
        if len(self.codes) == self.size:  # a single one, which may be empty
            return body(carry, TokenBlock(None, jnp.int32(0), self.size))
        if all_rows is None:

            def take_chunk(carry: Carry, chunk: Chunk) -> Carry:
                return body(carry, TokenBlock(None, *chunk))

            return fold_chunks(len(self.codes), self.size, take_chunk, carry)

        def fold_from(first: Array, length: Array, size: int, carry: Carry) -> Carry:
            def step(index: Int32[Array, ""], carry: Carry) -> Carry:
                start = first + index * size
                rows = lax.dynamic_slice_in_dim(all_rows, start, size)
                return body(carry, TokenBlock(rows, start, size))

            return lax.fori_loop(0, length, step, carry)

        rest = rest_block(self.size)
        num_counted, none = jnp.sum(self.codes != IGNORED, dtype=jnp.int32), jnp.int32(0)
        whole = num_counted // self.size if rest < self.size else none
        if rest < self.size:
            carry = fold_from(none, whole, self.size, carry)
        first = whole * self.size
        return fold_from(first, -(-(num_counted - first) // rest), rest, carry)


def order_tokens(codes: Int32[Array, " N"], size: int) -> Tokens:
    """The tokens in blocks of `size`, those that count first where that saves time."""
    num_tokens = len(codes)
    if num_tokens <= size or jax.default_backend() == "gpu":
        return Tokens(codes, None, None, min(num_tokens, size))
    rest = rest_block(size)
    length = -(-num_tokens // rest) * rest
    is_counted = codes != IGNORED
    counted_so_far = jnp.cumsum(is_counted, dtype=jnp.int32)
    # The k-th that counts is where the count comes to k; past the last that is N.
    kth = 1 + lax.iota(jnp.int32, length)
    rows = jnp.searchsorted(counted_so_far, kth).astype(jnp.int32)
    return Tokens(
        codes.at[rows].get(mode="fill", fill_value=IGNORED),
        rows,
        jnp.where(is_counted, counted_so_far - 1, length),
        size,
    )
