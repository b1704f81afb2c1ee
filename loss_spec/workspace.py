"""How many bytes of workspace a strategy needs with tiles of some size.

Workspace is what a step needs beyond its inputs and the gradients that it returns. PyTorch
allocates what its loops name, so there the sum is nearly exact; XLA decides itself, and the
sums for JAX are those that its buffer assignment showed for shapes of all kinds: that for a CPU,
and that for an H100, which is to be had without one (`python -m harness.gpu_compiler`).
`python -m harness.tune` prints both, what was predicted and what was measured.
"""

from __future__ import annotations

from typing import NamedTuple

from loss_spec.problem import DTYPE_BYTES, Problem


class Backend(NamedTuple):
    """Who does the work: what decides about memory beside the shapes."""

    framework: str
    """ "torch" or "jax" """
    device: str
    """ "cpu" or "gpu" """
    widens: bool = False
    """whether 16-bit operands are made float32 before they are multiplied"""
    casts: bool = False
    """whether inputs are wider than the dtype in which they are multiplied, as under autocast"""


class Needs(NamedTuple):
    """Which gradients were asked for: the others are never computed."""

    hidden: bool
    weight: bool
    bias: bool


class Tiling(NamedTuple):
    """A strategy and the size of its tiles."""

    strategy: str
    token_chunk: int
    vocab_chunk: int


def workspace_bytes(
    problem: Problem, tiling: Tiling, needs: Needs, backend: Backend, *, has_softcap: bool
) -> int:
    """An upper bound of the workspace of loss and gradients; of the loss alone where nothing
    is needed."""
    if backend.framework == "torch":
        of = _torch_bytes
    else:
        of = _jax_bytes if backend.device == "cpu" else _jax_gpu_bytes
    sizes = _sizes(problem, tiling)
    small = _FIXED + _PER_TOKEN * problem.num_tokens + (1 + needs.bias) * sizes.wide * sizes.v
    return small + of(sizes, tiling, needs, backend, has_softcap)


# Statistics, coefficients, labels and their order; and what does not depend on anything.
# A class_weight may be copied; the gradient of a bias is counted as a sum of its own.
_PER_TOKEN = 96
_FIXED = 2**16

# In PyTorch: of the passes over a tile on a CPU, and of copies that a step makes.
SLAB_NUMBERS = 2**20
PIECE_NUMBERS = {"cpu": 2**18, "gpu": 2**22}

# Statistics of a token in float64, for which on a CPU the room of a piece is enough.
_MORE_PER_TOKEN = 4


class _Sizes(NamedTuple):
    """Numbers in what may have to be held; T tokens by C classes is a tile."""

    item: int
    """bytes of an input's number"""
    wide: int
    """bytes of a sum's number"""
    n: int
    nd: int
    vd: int
    tv: int
    tc: int
    td: int
    cd: int
    tail_columns: int
    """what chunks of C leave of V"""
    t: int
    c: int
    d: int
    v: int
    is_one_block: bool


def _sizes(problem: Problem, tiling: Tiling) -> _Sizes:
    n, d, v = problem.num_tokens, problem.hidden_dim, problem.vocab_size
    t, c = min(tiling.token_chunk, max(n, 1)), min(tiling.vocab_chunk, v)
    item = DTYPE_BYTES[problem.dtype]
    return _Sizes(
        item=item,
        wide=max(item, 4),
        n=n,
        nd=n * d,
        vd=v * d,
        tv=t * v,
        tc=t * c,
        td=t * d,
        cd=c * d,
        tail_columns=v % c if v > c else 0,
        t=t,
        c=c,
        d=d,
        v=v,
        is_one_block=n <= t,
    )


def _torch_bytes(
    s: _Sizes, tiling: Tiling, needs: Needs, backend: Backend, has_softcap: bool
) -> int:
    on_cpu, is_narrow = backend.device == "cpu", s.item < s.wide
    is_one_pass, piece = tiling.strategy == "one_pass", PIECE_NUMBERS[backend.device]
    tile = s.tv if is_one_pass else s.tc
    total = s.wide * tile
    if has_softcap:
        rows = tile // s.t
        total += s.wide * (min(tile, max(SLAB_NUMBERS, rows)) if on_cpu else tile)
    total += s.item * s.td  # the hidden of tokens that are selected, or set to 0
    if is_narrow and backend.widens:
        total += s.wide * (s.td + s.cd)
    elif is_narrow:
        total += s.item * (s.tc + on_cpu * max(s.td, s.cd))
    if backend.casts:
        total += s.wide * s.td + 2 * s.item * s.cd
    sums = needs.hidden * s.nd, needs.weight * (s.vd if is_one_pass else s.cd), needs.bias * s.v
    if on_cpu:
        rounded = piece  # and what else goes in pieces: added, or moved to its place
    else:
        rounded = is_narrow * min(piece, max(sums))
        total += s.wide * _MORE_PER_TOKEN * s.n
    if not is_narrow:
        return total + s.wide * rounded
    if is_one_pass:
        kept = sums[0] + sums[1]
        # What is widened in pieces before the backward: hidden, and narrow products.
        widened = on_cpu * min(piece, s.nd if backend.widens else max(s.nd, s.tc, s.cd))
        # Rounded in the backward, when the tile is gone.
        before = total + s.wide * widened + (s.wide - s.item) * kept
        return max(before, s.wide * (kept + rounded))
    return total + s.wide * (sums[0] + sums[1] + rounded)


# XLA's GPU compiler gives the parts of a long sum to cores that a small product leaves idle: so
# many numbers of partial sums, of so many terms each. What does not divide it pads.
_PARTIAL_NUMBERS = 5 * 2**20
_PARTIAL_TERMS = 128
_PARTIAL_ALIGNMENT = 64


def _jax_gpu_bytes(
    s: _Sizes, tiling: Tiling, needs: Needs, backend: Backend, has_softcap: bool
) -> int:
    is_narrow, is_one_pass = s.item < s.wide, tiling.strategy == "one_pass"

    def product(numbers: int, terms: int) -> int:
        parts = max(1, terms // _PARTIAL_TERMS)
        return s.wide * max(numbers, min(_PARTIAL_NUMBERS, parts * numbers))

    cd = s.cd if s.c < s.v else 0  # the whole weight needs no slice
    total = s.item * (s.td + s.tc + cd)
    total += max(needs.hidden * product(s.td, s.c), needs.weight * s.wide * cd)
    if s.c % _PARTIAL_ALIGNMENT:
        total += s.item * s.cd
    if s.tail_columns % _PARTIAL_ALIGNMENT:
        total += 2 * s.item * s.tail_columns * s.d
    if is_one_pass:
        total += s.wide * (s.tv + needs.hidden * s.td)
        if is_narrow:
            return total + s.wide * (needs.hidden * s.nd + needs.weight * s.vd)
        return total + s.item * cd
    total += product(s.tc, s.d)
    if is_narrow:
        carried = 0 if s.is_one_block else needs.weight * cd
        return total + s.wide * (needs.hidden * s.nd + carried)
    return total + s.wide * needs.hidden * s.td


# XLA's CPU compiler needs a copy for a 16-bit gradient: of a part, one of so many.
NUM_PARTS = 8


def _jax_bytes(s: _Sizes, tiling: Tiling, needs: Needs, backend: Backend, has_softcap: bool) -> int:
    # What chunks of C leave of V has buffers of its own.
    tc, cd = s.tc + s.tail_columns * s.t, s.cd + s.tail_columns * s.d
    is_narrow = s.item < s.wide
    total = s.wide * tc
    if needs.bias:  # scores with a bias have a buffer beside that of the product
        total += s.wide * tc
    if tiling.strategy == "one_pass":
        total += s.wide * (cd + 3 * s.td)
        # In 16 bits the tile is gone when the gradient of the weight is rounded, and may lie there.
        if not (is_narrow and needs.weight and s.wide * s.tv <= s.item * s.vd):
            total += s.wide * s.tv
        if is_narrow:
            total += s.wide * (needs.hidden * s.nd + needs.weight * s.vd + s.cd)
        return total
    if not is_narrow:
        return total + s.wide * (cd + (2 if s.is_one_block else 3) * s.td)
    total += s.wide * (2 * s.td + needs.hidden * s.nd)
    # Slices of the weight, of its gradient, and of its bits.
    total += (2 * s.wide + s.item + backend.widens * s.item) * cd
    part_columns = min(-(-s.v // (NUM_PARTS * s.c)) * s.c, s.v)
    last_columns = s.v % part_columns
    if needs.weight and part_columns > s.c:
        total += s.item * (part_columns + last_columns) * s.d
    if needs.weight and last_columns > s.c:  # chunks of a loop of its own
        total += s.wide * s.cd
    return total
