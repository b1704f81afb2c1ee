"""How the tokens go in blocks in JAX, whose shapes are static."""

from __future__ import annotations

# Matmuls of fewer rows are slow.
_SMALLEST_REST = 128


def rest_block(token_chunk: int) -> int:
    """Tokens a block where there are too few for one of `token_chunk`.

    What a block has no tokens for is computed all the same.
    """
    quarter, rest = divmod(token_chunk, 4)
    return token_chunk if rest or quarter < _SMALLEST_REST else quarter
