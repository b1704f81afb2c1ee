"""How long a strategy takes with tiles of some size, as far as that decides between them.

A roofline: the floating-point operations, less efficient in small tiles; and the bytes of
weight and dW that go by again for every block of tokens, or of hidden for every chunk of
the vocabulary. In units of bytes moved, so that one number describes a device.
"""

from __future__ import annotations

from typing import NamedTuple

from loss_spec.blocks import rest_block
from loss_spec.problem import DTYPE_BYTES, Problem
from loss_spec.workspace import Backend, Needs, Tiling


def flops(problem: Problem, strategy: str, needs: Needs) -> int:
    """Of the matmuls of loss and gradients; a multiply-add is two."""
    products = 1 + needs.hidden + needs.weight
    if strategy == "two_pass" and any(needs):
        products += 1
    return 2 * products * problem.num_tokens * problem.vocab_size * problem.hidden_dim


class Machine(NamedTuple):
    """What decides how large tiles should be; bytes are of memory that goes by."""

    flops_per_byte: float
    """that it does while a byte goes by"""
    half_classes: int
    """the width of a tile at which a matmul and what goes with it run at half their speed"""
    per_logit: float
    """bytes for each logit, each time there are logits"""
    per_kept_logit: float
    """the same where the logits of all classes are kept"""
    per_weight: float
    """bytes for each number of the weight, each time that a block of tokens goes over it"""
    per_hidden: float
    """bytes for each number of hidden, for every chunk of the vocabulary"""
    cache_bytes: float = float("inf")
    """of a tile that does not go by"""


# "wide" fitted to `results/intel-2-cores/tune`, "narrow" (an AMD CPU that multiplies bfloat16)
# to earlier runs. On a GPU nothing has been timed yet: the flops per byte are guessed, somewhat
# below an H100's data sheet (float32 without TF32); the bytes are those that go by in the program
# that XLA makes for one, and in PyTorch's operators.
_CPU_CACHE = 12 * 2**20
_MACHINES = {
    ("torch", "cpu", "wide"): Machine(18, 32, 2, 2, 5, 12, _CPU_CACHE),
    ("torch", "cpu", "narrow"): Machine(75, 16, 18, 43, 38, 26, _CPU_CACHE),
    ("jax", "cpu", "wide"): Machine(16, 16, 2, 2, 10, 12, _CPU_CACHE),
    ("jax", "cpu", "narrow"): Machine(35, 32, 11, 70, 20, 80, _CPU_CACHE),
    ("torch", "gpu", "wide"): Machine(18, 128, 34, 50, 10, 10),
    ("torch", "gpu", "narrow"): Machine(260, 128, 34, 50, 8, 12),
    ("jax", "gpu", "wide"): Machine(18, 128, 15, 26, 14, 22),
    ("jax", "gpu", "narrow"): Machine(260, 128, 14, 24, 11, 18),
}

# On a GPU: blocks of a sum of hidden's size are read and written again in every chunk.
_PER_HIDDEN_OF_BLOCKS = 12

# Of a logit that leaves the cache: written, and read again by the passes and the matmuls.
_SPILLED_BYTES = 16


def cost(problem: Problem, tiling: Tiling, needs: Needs, backend: Backend) -> float:
    """Comparable between tilings of one problem, and not a time."""
    item = DTYPE_BYTES[problem.dtype]
    is_one_pass, is_narrow = tiling.strategy == "one_pass", item < 4
    width = "narrow" if is_narrow and not backend.widens else "wide"
    machine = _MACHINES[backend.framework, backend.device, width]
    n, v, d = max(problem.num_tokens, 1), problem.vocab_size, problem.hidden_dim
    t, c = min(tiling.token_chunk, n), min(tiling.vocab_chunk, v)
    blocks, chunks = -(-n // t), -(-v // c)

    arithmetic = flops(problem, tiling.strategy, needs) / machine.flops_per_byte
    arithmetic *= 1 + machine.half_classes / c
    on_gpu, is_torch = backend.device == "gpu", backend.framework == "torch"
    if not (is_torch or on_gpu):
        arithmetic *= -(-n // rest_block(t)) * rest_block(t) / n
    if is_one_pass:
        logits = machine.per_kept_logit
    else:
        spilled = max(0.0, 1 - machine.cache_bytes / (t * c * max(item, 4)))
        logits = (1 + any(needs)) * (machine.per_logit + spilled * _SPILLED_BYTES)
    moved = (1 if is_one_pass and not on_gpu else 2) * blocks * v * d * machine.per_weight
    adds_by_chunks = is_narrow if is_one_pass else is_narrow or is_torch
    if on_gpu or (adds_by_chunks and (is_torch or not is_one_pass)):
        moved += any(needs) * chunks * n * d * machine.per_hidden
    if on_gpu and blocks > 1 and not is_one_pass:
        moved += any(needs) * chunks * n * d * _PER_HIDDEN_OF_BLOCKS
    return arithmetic + n * v * logits + moved
