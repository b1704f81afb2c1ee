"""XLA's buffer assignment against programs whose arguments, results and temporaries are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from harness.memory.buffer_assignment import assigned_bytes, peak_bytes
from tests.tables import optimized

pytestmark = optimized


class Program(NamedTuple):
    """What it takes and needs; the figures in units of an [n, n] array."""

    function: Callable[..., object]
    arguments: tuple[str, ...]
    output: int
    temp: int
    donated: tuple[int, ...] = ()
    alias: int = 0


def sorted_table(column, row):
    return jnp.sort(column @ row, axis=0).sum()


def two_matmuls(hidden, weight, other):
    return (hidden @ weight) @ other


def both_alive(hidden, weight, other):
    return (hidden @ weight).T @ (hidden @ other)


def loop(square):
    return jax.lax.fori_loop(0, 10, lambda _, carried: carried @ square, square).sum()


def stacked(square):
    """All eight, and the one that the loop carries."""
    _, all_of_them = jax.lax.scan(lambda c, _: (jnp.tanh(c @ c), c), square, None, length=8)
    return all_of_them.sum(0) @ all_of_them[0]


def added(square, other):
    return square + other


SQUARE, WIDE, HIGH = "n n", "n 4n", "4n n"
PROGRAMS = {
    "a temporary that no fusion avoids": Program(sorted_table, ("n 1", "1 n"), 0, 1),
    "between two matmuls": Program(two_matmuls, (SQUARE, WIDE, HIGH), 1, 4),
    "two at once": Program(both_alive, (SQUARE, WIDE, WIDE), 16, 8),
    "carried by a loop": Program(loop, (SQUARE,), 0, 2),
    "stacked by a scan": Program(stacked, (SQUARE,), 1, 9),
    "two results": Program(lambda square: (square + 1, square * 2), (SQUARE,), 2, 0),
    "a result in an argument's place": Program(added, (SQUARE, SQUARE), 1, 0, (0,), 1),
}


def argument(sizes: str, n: int) -> jax.ShapeDtypeStruct:
    numbers = {"1": 1, "n": n, "4n": 4 * n}
    return jax.ShapeDtypeStruct([numbers[size] for size in sizes.split()], jnp.float32)


@pytest.mark.parametrize("n", [64, 500, 4096])  # an [n, n] array of 16 KiB, 1 MB, 64 MiB
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, n: int) -> None:
    program = PROGRAMS[name]
    arguments = [argument(sizes, n) for sizes in program.arguments]
    jitted = jax.jit(program.function, donate_argnums=program.donated)
    assigned = assigned_bytes(jitted.lower(*arguments).compile())

    unit = 4 * n * n
    # Beside the arrays there are scalars and the addresses of several results.
    few = {"rel": 0.01, "abs": 64}
    taken = sum(array.size for array in arguments) * 4
    assert assigned["argument"] == taken
    assert assigned["output"] == pytest.approx(program.output * unit, **few)
    assert assigned["alias"] == pytest.approx(program.alias * unit, **few)
    assert assigned["temp"] == pytest.approx(program.temp * unit, **few)
    needed = taken + (program.output + program.temp - program.alias) * unit
    assert peak_bytes(assigned) == pytest.approx(needed, **few)
