"""What one call will do: its strategy, the size of its tiles, its workspace and its flops.

A pure function of shapes, dtype, options, what needs gradients, who does the work, and the
memory that it may take. Of all tilings that fit into the budget it takes the one that the
cost model likes best: with a larger budget there are more of them, so that the cost never
rises.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from loss_spec.cost import cost, flops
from loss_spec.options import LossOptions
from loss_spec.problem import DTYPE_BYTES, Problem
from loss_spec.workspace import Backend, Needs, Tiling, workspace_bytes

EVERYTHING = Needs(hidden=True, weight=True, bias=True)

# Without a budget the tiles may take this share of the float32 logits, or so many bytes,
# which are few on any such device; beside what the smallest plan needs.
_SHARE_OF_LOGITS = 32
_SMALL_BYTES = {"cpu": 20 * 2**20, "gpu": 64 * 2**20}

# What is as fast as the fastest to within this should not take more memory.
_INDIFFERENT = 1.01

# Blocks of tokens are at most so large a share: in JAX, one that is ignored costs nothing
# only if there are blocks to leave out. But a block this small is never cut for that.
_SHARE_OF_TOKENS = {"two_pass": 2, "one_pass": 4}
_SMALL_BLOCK = 128

# A tile that nobody asked for has no more numbers than 32 bits can count.
_MAX_TILE_NUMBERS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The choices for one call, and what they cost.

    `print(plan)` says them in words. The workspace is an upper bound of what a step needs
    beyond its inputs and the gradients that it returns.
    """

    strategy: str
    vocab_chunk: int
    token_chunk: int
    workspace_bytes: int
    flops: int
    reason: str

    def __str__(self) -> str:
        return (
            f"{self.strategy}: tiles of {self.token_chunk:,} tokens x {self.vocab_chunk:,} "
            f"classes, {self.workspace_bytes / 2**20:,.1f} MiB of workspace, "
            f"{self.flops / 1e9:,.1f} GFLOP ({self.reason})"
        )


@functools.lru_cache(maxsize=256)  # a training step asks again for what the last one asked
def make_plan(
    problem: Problem,
    options: LossOptions,
    *,
    backend: Backend,
    needs: Needs = EVERYTHING,
) -> Plan:
    """The plan for a call; what the caller asked for by name stays as it is.

    Raises `ValueError` for a `memory_budget` that no plan keeps, with the smallest that
    one would.
    """
    strategies, reason = _strategies(options, needs)
    has_softcap = options.logit_softcap is not None
    sizes = {
        tiling: workspace_bytes(problem, tiling, needs, backend, has_softcap=has_softcap)
        for strategy in strategies
        for tiling in _tilings(problem, options, strategy, backend)
    }
    smallest = min(sizes, key=sizes.__getitem__)
    budget = options.memory_budget
    if budget is not None and sizes[smallest] > budget:
        raise ValueError(
            f"memory_budget: expected at least {sizes[smallest]} bytes for these shapes "
            f"({smallest.strategy}, tiles of {smallest.token_chunk} x {smallest.vocab_chunk}), "
            f"got {budget}"
        )
    limit = budget
    if limit is None:
        limit = sizes[smallest] + _default_bytes(problem, strategies, backend)
    costs = {
        tiling: cost(problem, tiling, needs, backend)
        for tiling, size in sizes.items()
        if size <= limit
    }
    fast_enough = _INDIFFERENT * min(costs.values())
    best = min((tiling for tiling in costs if costs[tiling] <= fast_enough), key=sizes.__getitem__)
    return Plan(
        strategy=best.strategy,
        vocab_chunk=best.vocab_chunk,
        token_chunk=best.token_chunk,
        workspace_bytes=sizes[best],
        flops=flops(problem, best.strategy, needs),
        reason=reason,
    )


def _strategies(options: LossOptions, needs: Needs) -> tuple[tuple[str, ...], str]:
    """Those to choose from, and why."""
    if not any(needs):
        return ("two_pass",), "the loss alone"
    if options.reduction == "none":
        asked = "; one_pass cannot know the cotangent of each token"
        return ("two_pass",), 'reduction "none"' + asked
    if options.strategy != "auto":
        return (options.strategy,), "asked for"
    budget = "the default budget" if options.memory_budget is None else "the budget"
    return ("two_pass", "one_pass"), f"the fastest within {budget}"


def _default_bytes(problem: Problem, strategies: tuple[str, ...], backend: Backend) -> int:
    wide = max(4, DTYPE_BYTES[problem.dtype])
    logits_bytes = wide * problem.num_tokens * problem.vocab_size
    if strategies == ("one_pass",):
        return logits_bytes  # its blocks are bounded by a share of the tokens
    return max(_SMALL_BYTES[backend.device], logits_bytes // _SHARE_OF_LOGITS)


def _tilings(
    problem: Problem, options: LossOptions, strategy: str, backend: Backend
) -> Iterator[Tiling]:
    """Tile sizes to choose from; a chunk is never longer than its axis, and at least 1."""
    tokens, classes = max(problem.num_tokens, 1), problem.vocab_size
    is_one_pass, is_torch = strategy == "one_pass", backend.framework == "torch"
    longest = max(-(-tokens // _SHARE_OF_TOKENS[strategy]), min(tokens, _SMALL_BLOCK))
    on_gpu = backend.device == "gpu"
    if (is_torch or on_gpu) and not is_one_pass:
        longest = tokens  # it leaves tokens out of any block, or out of none
    if is_one_pass:
        longest = max(1, min(longest, _MAX_TILE_NUMBERS // classes))
    # Powers of two alone where a rest is a program of its own: they divide most vocabularies.
    steps = (4,) if on_gpu else (4, 5, 6)
    token_chunks = _sizes(options.token_chunk, tokens, longest, steps=steps)
    vocab_chunks = _sizes(options.vocab_chunk, classes, classes, steps=(4,))
    if options.vocab_chunk is None and is_one_pass and is_torch and not _is_narrow(problem):
        vocab_chunks = [classes]  # it adds whole products to its sums: nothing to cut
    # What was asked for is done: of one_pass the tokens alone decide how large a tile is.
    is_asked = options.token_chunk is not None and (is_one_pass or options.vocab_chunk is not None)
    for token_chunk in token_chunks:
        for vocab_chunk in vocab_chunks:
            columns = classes if is_one_pass else vocab_chunk
            if is_asked or token_chunk * columns <= _MAX_TILE_NUMBERS:
                yield Tiling(strategy, token_chunk, vocab_chunk)


def _sizes(asked: int | None, axis: int, longest: int, steps: tuple[int, ...]) -> list[int]:
    """Quarters of powers of two from 16 on, and the longest; or what was asked for."""
    if asked is not None:
        return [min(asked, axis)]
    sizes = (step * 2**exponent for exponent in range(2, 29) for step in steps)
    return sorted({size for size in sizes if size < longest} | {longest})


def _is_narrow(problem: Problem) -> bool:
    return DTYPE_BYTES[problem.dtype] < 4
