"""How the work of one call is cut into tiles."""

from __future__ import annotations

from dataclasses import dataclass

from loss_spec.options import LossOptions
from loss_spec.problem import Problem

# Elements of the largest buffers: the [token_chunk, vocab_chunk] tile of logits and the
# [vocab_chunk, D] slice of the weight and its gradient. On a CPU they should stay in the
# last-level cache between the matmul that writes them and the passes that read them; an
# accelerator wants matmuls large enough to fill it.
_TILE_ELEMENTS = {"cpu": 2**21, "accelerator": 2**26}

# Narrower than this, a matmul loses more to its own overhead than a small tile gains.
_MIN_VOCAB_CHUNK = 512
_MAX_TOKEN_CHUNK = {"cpu": 2048, "accelerator": 8192}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The choices for one call; a tile of logits is token_chunk x vocab_chunk."""

    strategy: str
    vocab_chunk: int
    token_chunk: int


def make_plan(problem: Problem, options: LossOptions, *, on_cpu: bool) -> Plan:
    """Chooses the strategy and chunk sizes; what the caller asked for stays as it is.

    A chunk is never longer than its axis, and at least 1 even where the axis is empty.
    """
    kind = "cpu" if on_cpu else "accelerator"
    tokens = max(problem.num_tokens, 1)
    token_chunk = min(options.token_chunk or _MAX_TOKEN_CHUNK[kind], tokens)
    # With few tokens the slice of the weight is the larger of the two.
    widest = max(token_chunk, problem.hidden_dim)
    vocab_chunk = options.vocab_chunk or max(_TILE_ELEMENTS[kind] // widest, _MIN_VOCAB_CHUNK)
    return Plan(
        strategy="two_pass",
        vocab_chunk=min(vocab_chunk, problem.vocab_size),
        token_chunk=token_chunk,
    )
