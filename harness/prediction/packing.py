"""How XLA packs the values of a program into memory, as far as a prediction needs it.

The larger a value, the earlier it gets its place. A result has memory of its own, which
values that are no longer needed when it is written may use before; of what fits, the tightest
is taken. The others share one block, each where it fits most tightly among those that are
alive with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Value(NamedTuple):
    """Alive from the instruction that computes it to the last one that reads it."""

    size_bytes: int
    first: int
    last: int
    is_result: bool = False


def packed_bytes(values: Sequence[Value]) -> int:
    """The memory of the results, and of the block beside them."""
    results = [[value] for value in values if value.is_result]
    beside = []
    for value in _by_size(value for value in values if not value.is_result):
        free = [
            memory
            for memory in results
            if memory[0].size_bytes >= value.size_bytes and not any(_meet(value, m) for m in memory)
        ]
        if free:
            min(free, key=lambda memory: memory[0].size_bytes).append(value)
        else:
            beside.append(value)
    return sum(memory[0].size_bytes for memory in results) + _block_bytes(beside)


def _block_bytes(values: Sequence[Value]) -> int:
    placed: list[tuple[int, Value]] = []
    for value in _by_size(values):
        taken = sorted((offset, other) for offset, other in placed if _meet(value, other))
        placed.append((_tightest_gap(taken, value.size_bytes), value))
    return max((offset + value.size_bytes for offset, value in placed), default=0)


def _tightest_gap(taken: Sequence[tuple[int, Value]], size_bytes: int) -> int:
    """The offset of the smallest gap that is large enough, at the end where there is none."""
    gaps, end = [], 0
    for offset, other in taken:
        if offset - end >= size_bytes:
            gaps.append((offset - end, end))
        end = max(end, offset + other.size_bytes)
    return min(gaps)[1] if gaps else end


def _by_size(values: Iterable[Value]) -> list[Value]:
    return sorted(values, key=lambda value: -value.size_bytes)


def _meet(value: Value, other: Value) -> bool:
    return value.first <= other.last and other.first <= value.last
