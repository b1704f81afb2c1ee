"""The profiler's events against patterns of allocation whose peak is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from harness.memory.allocator_events import peak_allocated_bytes

MIB = 2**20
SIZES = {"1 KiB": 2**10, "100 kB": 100_000, "1 MiB": MIB, "16 MiB": 16 * MIB, "256 MiB": 256 * MIB}
PATTERNS: dict[str, tuple[int, Callable[[int], object]]] = {}
"""Name to the peak, in units of a size, and a step that is called with it."""


def peak_of(units: int) -> Callable[[Callable[[int], object]], Callable[[int], object]]:
    def add(step: Callable[[int], object]) -> Callable[[int], object]:
        PATTERNS[step.__name__] = units, step
        return step

    return add


def room(size_bytes: int) -> torch.Tensor:
    return torch.empty(size_bytes, dtype=torch.uint8)


@peak_of(2)
def held(size_bytes: int) -> object:
    return room(size_bytes), room(size_bytes)


@peak_of(0)
def nothing(size_bytes: int) -> object:
    return None


@peak_of(1)
def one_after_the_other(size_bytes: int) -> object:
    for _ in range(50):
        room(size_bytes)
    return None


@peak_of(3)
def freed_before_the_end(size_bytes: int) -> object:
    first = room(size_bytes)
    del first
    second, third = room(2 * size_bytes), room(size_bytes)
    del second
    return third


@peak_of(4)
def freed_out_of_order(size_bytes: int) -> object:
    first, second, third = room(size_bytes), room(size_bytes), room(size_bytes)
    del second
    fourth = room(2 * size_bytes)
    del first
    return third, fourth, room(size_bytes)


@peak_of(1)
def many_small(size_bytes: int) -> object:
    return [room(size_bytes // 512) for _ in range(512)]


@peak_of(3)
def grown_in_place(size_bytes: int) -> object:
    """The old memory is there until the new one is filled."""
    grown = room(size_bytes)
    return grown.resize_(2 * size_bytes)


@peak_of(2)
def in_the_backward_pass(size_bytes: int) -> object:
    """The exponentials are kept for it, and their gradient is formed beside them."""
    exponents = torch.zeros(1, requires_grad=True).expand(size_bytes // 4)
    return torch.autograd.grad(exponents.exp().sum(), exponents)


@pytest.mark.parametrize("size_bytes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_peak_of_a_pattern(pattern: str, size_bytes: int) -> None:
    units, step = PATTERNS[pattern]
    before = room(size_bytes)  # not part of any step
    for _ in range(2):  # an earlier profile leaves nothing in a later one
        peak = peak_allocated_bytes(lambda: step(size_bytes))
        # What a scalar and its gradient take, and no more.
        assert peak == pytest.approx(units * size_bytes, rel=0.01, abs=16)
    del before
