"""Tile sizes that are worth measuring at a shape, and those that are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.cases import Shape
from harness.plans import MIB, budget_bytes, plan_of

_SMALLEST = 16

# Parts of an axis: 1 is all of it.
_TOKEN_PARTS = {"two_pass": (1, 2, 4, 8), "one_pass": (4, 8, 16, 32, 64)}
_VOCAB_PARTS = {"two_pass": (4, 16, 64, 256), "one_pass": (1, 16)}
_BUDGET_PARTS = (4, 16, 64)


class GridPoint(NamedTuple):
    """A tiling to measure, and the workspace that the plan predicts for it."""

    strategy: str
    token_chunk: int
    vocab_chunk: int
    workspace_bytes: int


def grid(
    framework: str,
    device: str,
    shape: Shape,
    *,
    strategies: Sequence[str],
    token_chunks: Sequence[int] | None,
    vocab_chunks: Sequence[int] | None,
) -> tuple[list[GridPoint], list[GridPoint]]:
    """The tilings to measure, and those left out since they need more than the full logits.

    Chunk sizes that are None are chosen from the shape, for each strategy. Where the
    vocabulary's chunk makes no difference to the workspace only the largest is kept.
    """
    found: dict[tuple[str, int, int], GridPoint] = {}
    for strategy in strategies:
        tokens = _clipped(token_chunks, shape.num_tokens) or _parts(
            shape.num_tokens, _TOKEN_PARTS[strategy]
        )
        classes = _clipped(vocab_chunks, shape.vocab_size) or _parts(
            shape.vocab_size, _VOCAB_PARTS[strategy]
        )
        for token_chunk in tokens:
            for vocab_chunk in sorted(classes):
                options = {
                    "strategy": strategy,
                    "token_chunk": token_chunk,
                    "vocab_chunk": vocab_chunk,
                }
                size = plan_of(framework, device, shape, options).workspace_bytes
                point = GridPoint(strategy, token_chunk, vocab_chunk, size)
                found[strategy, token_chunk, size] = point
    points = sorted(found.values())
    kept = [point for point in points if point.workspace_bytes <= shape.logits_bytes]
    return kept, [point for point in points if point.workspace_bytes > shape.logits_bytes]


def default_budgets(framework: str, device: str, shape: Shape) -> list[int]:
    """Budgets in bytes: shares of the logits that some plan keeps, in round MiB if they can be."""
    shares = [shape.logits_bytes / part / MIB for part in _BUDGET_PARTS]
    budgets = [budget_bytes(float(f"{share:.2g}")) for share in shares]
    return [budget for budget in budgets if _is_kept(framework, device, shape, budget)]


def _is_kept(framework: str, device: str, shape: Shape, budget: int) -> bool:
    try:
        plan_of(framework, device, shape, {"memory_budget": budget})
    except ValueError:
        return False
    return True


def _clipped(sizes: Sequence[int] | None, axis: int) -> list[int]:
    return list(dict.fromkeys(min(size, axis) for size in sizes or ()))


def _parts(axis: int, parts: Sequence[int]) -> list[int]:
    """Powers of two below these parts of an axis, but the whole of it as it is."""
    sizes = (axis if part == 1 else 1 << ((axis // part or 1).bit_length() - 1) for part in parts)
    return list(dict.fromkeys(min(max(size, _SMALLEST), axis) for size in sizes))
