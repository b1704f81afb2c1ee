"""The plan: what the caller asked for stays, the budget is kept, and more of it costs no time."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loss_spec import EVERYTHING, FLOAT_DTYPES, Backend, LossOptions, Needs, Problem, make_plan
from loss_spec.cost import cost
from loss_spec.workspace import Tiling

NOTHING = Needs(hidden=False, weight=False, bias=False)
STRATEGIES = ("two_pass", "one_pass")
MIB = 2**20

BACKENDS = {
    "torch on a CPU": Backend("torch", "cpu"),
    "torch on a CPU that widens": Backend("torch", "cpu", widens=True),
    "torch on a GPU": Backend("torch", "gpu"),
    "jax on a CPU": Backend("jax", "cpu"),
    "jax on a GPU": Backend("jax", "gpu"),
}
TORCH = BACKENDS["torch on a CPU"]
every_backend = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)

# N, D, V: the sweep's, few tokens, few classes, real heads, and the ends of each axis.
SHAPES = {
    "medium": (2048, 512, 32768),
    "ragged": (2047, 513, 32769),
    "few tokens": (16, 4096, 151936),
    "few classes": (65536, 1024, 32),
    "gpt2": (8192, 768, 50257),
    "llama3_8b": (8192, 4096, 128256),
    "gemma2_2b": (4096, 2304, 256000),
    "a million of both": (2**20, 64, 2**20),
    "one of everything": (1, 1, 1),
    "no token": (0, 64, 1000),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def problem(num_tokens, hidden_dim, vocab_size, dtype="float32"):
    return Problem(
        token_shape=(num_tokens,),
        num_tokens=num_tokens,
        hidden_dim=hidden_dim,
        vocab_size=vocab_size,
        dtype=dtype,
    )


def plan_for(shape, *, dtype="float32", backend=TORCH, needs=EVERYTHING, **options):
    return make_plan(problem(*shape, dtype), LossOptions(**options), backend=backend, needs=needs)


axis = st.one_of(st.integers(1, 20), st.integers(1, 2**22))
chunk = st.one_of(st.none(), axis)
by_hypothesis = settings(derandomize=True, database=None, max_examples=200, deadline=None)


@by_hypothesis
@given(
    num_tokens=st.one_of(st.just(0), axis),
    hidden_dim=st.integers(1, 8192),
    vocab_size=axis,
    vocab_chunk=chunk,
    token_chunk=chunk,
    dtype=st.sampled_from(FLOAT_DTYPES),
    strategy=st.sampled_from(("auto", *STRATEGIES)),
    reduction=st.sampled_from(("mean", "sum", "none")),
    needs=st.builds(Needs, st.booleans(), st.booleans(), st.booleans()),
    backend=st.sampled_from(list(BACKENDS.values())),
)
def test_chunks_that_were_asked_for_stay(
    num_tokens, hidden_dim, vocab_size, vocab_chunk, token_chunk, dtype, needs, backend, **options
):
    """And none is longer than its axis, or shorter than 1 where the axis is empty."""
    plan = plan_for(
        (num_tokens, hidden_dim, vocab_size),
        dtype=dtype,
        backend=backend,
        needs=needs,
        vocab_chunk=vocab_chunk,
        token_chunk=token_chunk,
        **options,
    )
    assert 1 <= plan.vocab_chunk <= vocab_size
    assert 1 <= plan.token_chunk <= max(num_tokens, 1)
    if vocab_chunk is not None:
        assert plan.vocab_chunk == min(vocab_chunk, vocab_size)
    if token_chunk is not None:
        assert plan.token_chunk == min(token_chunk, max(num_tokens, 1))


@every_backend
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_strategy_that_was_asked_for_stays(strategy, backend):
    for shape in SHAPES.values():
        plan = plan_for(shape, backend=backend, strategy=strategy)
        assert (plan.strategy, plan.reason) == (strategy, "asked for")


@pytest.mark.parametrize("strategy", ["auto", *STRATEGIES])
def test_no_reduction_has_two_passes_and_says_why(strategy):
    """The cotangent of each token is not known before the backward."""
    plan = plan_for(SHAPES["medium"], reduction="none", strategy=strategy)
    assert plan.strategy == "two_pass"
    assert 'reduction "none"' in plan.reason
    assert "cotangent" in plan.reason


@every_backend
@pytest.mark.parametrize("strategy", ["auto", *STRATEGIES])
def test_loss_alone_is_a_forward_alone(strategy, backend):
    num_tokens, hidden_dim, vocab_size = shape = SHAPES["ragged"]
    plan = plan_for(shape, backend=backend, needs=NOTHING, strategy=strategy)
    assert (plan.strategy, plan.reason) == ("two_pass", "the loss alone")
    assert plan.flops == 2 * num_tokens * vocab_size * hidden_dim


# Matmuls of N x V x D: the logits, once or twice, and one for each large gradient.
MATMULS = {
    (True, True, True): {"two_pass": 4, "one_pass": 3},
    (True, True, False): {"two_pass": 4, "one_pass": 3},
    (True, False, True): {"two_pass": 3, "one_pass": 2},
    (False, True, True): {"two_pass": 3, "one_pass": 2},
    (False, False, True): {"two_pass": 2, "one_pass": 1},
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("needs", MATMULS)
def test_flops(needs, strategy):
    num_tokens, hidden_dim, vocab_size = shape = SHAPES["ragged"]
    plan = plan_for(shape, needs=Needs(*needs), strategy=strategy)
    assert plan.flops == MATMULS[needs][strategy] * 2 * num_tokens * vocab_size * hidden_dim


def smallest_budget(shape, **given):
    """What the refusal of one byte names."""
    with pytest.raises(ValueError, match=r"^memory_budget: expected at least \d+ bytes") as refusal:
        plan_for(shape, **given, memory_budget=1)
    message = str(refusal.value)
    assert message.endswith(", got 1")
    return int(re.search(r"at least (\d+) bytes", message)[1])


@every_shape
@every_backend
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_budget_is_kept_or_refused_with_the_smallest(dtype, backend, shape):
    """And exactly the smallest is enough, one byte less is not."""
    given = {"dtype": dtype, "backend": backend}
    for strategy in ("auto", *STRATEGIES):
        smallest = smallest_budget(shape, **given, strategy=strategy)
        budgets = [64 * MIB, 1024 * MIB, 2 * smallest]
        for budget in [smallest, *(budget for budget in budgets if budget > smallest)]:
            plan = plan_for(shape, **given, strategy=strategy, memory_budget=budget)
            assert plan.workspace_bytes <= budget
        with pytest.raises(ValueError, match=rf"at least {smallest} .* got {smallest - 1}$"):
            plan_for(shape, **given, strategy=strategy, memory_budget=smallest - 1)


def test_too_small_a_budget_names_the_plan_that_would_do():
    message = r"^memory_budget: .*\(two_pass, tiles of \d+ x \d+\), got 1048576$"
    with pytest.raises(ValueError, match=message):
        plan_for(SHAPES["llama3_8b"], dtype="bfloat16", memory_budget=MIB)


def test_a_budget_below_one_of_the_strategies_takes_the_other():
    """two_pass is the leaner one; where it was not asked for, one_pass is not refused."""
    shape = SHAPES["llama3_8b"]
    lean, fast = (smallest_budget(shape, dtype="bfloat16", strategy=name) for name in STRATEGIES)
    assert lean < fast
    plan = plan_for(shape, dtype="bfloat16", memory_budget=fast - 1)
    assert plan.strategy == "two_pass"


@every_shape
@every_backend
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("needs", [EVERYTHING, Needs(True, False, False)], ids=["all", "frozen"])
def test_more_memory_is_never_slower(needs, dtype, backend, shape):
    given = {"dtype": dtype, "backend": backend, "needs": needs}
    smallest, costs = smallest_budget(shape, **given), []
    for factor in (1, 1.2, 1.5, 2, 3, 5, 10, 100):
        plan = plan_for(shape, **given, memory_budget=int(factor * smallest))
        tiling = Tiling(plan.strategy, plan.token_chunk, plan.vocab_chunk)
        costs.append(cost(problem(*shape, dtype), tiling, needs, backend))
    assert costs == sorted(costs, reverse=True)


def test_both_strategies_are_chosen_by_somebody():
    """Or "auto" would be no choice."""
    chosen = {
        plan_for(shape, dtype=dtype, backend=backend, memory_budget=budget).strategy
        for backend, dtype in itertools.product(BACKENDS.values(), ["bfloat16", "float32"])
        for shape, budget in [(SHAPES["medium"], 128 * MIB), (SHAPES["medium"], 4096 * MIB)]
    }
    assert chosen == set(STRATEGIES)


@every_backend
@pytest.mark.parametrize("strategy", ["auto", *STRATEGIES])
@pytest.mark.parametrize("asked", [{}, {"vocab_chunk": 2**20}], ids=str)
def test_a_tile_can_be_counted_in_32_bits(asked, strategy, backend):
    """With an enormous budget and axes of a million."""
    plan = plan_for(
        (2**20, 64, 2**20), backend=backend, strategy=strategy, memory_budget=2**50, **asked
    )
    columns = plan.vocab_chunk if plan.strategy == "two_pass" else 2**20
    assert plan.token_chunk * columns < 2**31


@every_backend
@pytest.mark.parametrize("strategy", ["auto", *STRATEGIES])
def test_a_tile_that_was_asked_for_may_be_larger(strategy, backend):
    """On a machine that has room for it, or to be refused by a budget, in words."""
    given = {"backend": backend, "strategy": strategy}
    asked = {"token_chunk": 2**20, "vocab_chunk": 2**20}
    for chosen in (asked, {"token_chunk": 2**20}):
        plan = plan_for((2**20, 64, 2**20), **given, **chosen, memory_budget=2**50)
        assert plan.token_chunk == 2**20
    with pytest.raises(ValueError, match=r"^memory_budget: expected at least"):
        plan_for((2**20, 64, 2**20), **given, **asked, memory_budget=2**30)


@every_shape
@every_backend
def test_without_a_budget_the_workspace_is_a_small_share_of_the_logits(backend, shape):
    """A 32nd or a few MiB, whichever is more, beside what the smallest plan needs."""
    num_tokens, _, vocab_size = shape
    few = {"cpu": 20 * MIB, "gpu": 64 * MIB}[backend.device]
    tiles = max(few, 4 * num_tokens * vocab_size // 32)
    smallest = smallest_budget(shape, backend=backend)
    assert plan_for(shape, backend=backend).workspace_bytes <= smallest + tiles


def test_in_words():
    plan = plan_for(SHAPES["medium"], strategy="one_pass", memory_budget=512 * MIB)
    mib, gflop = plan.workspace_bytes / MIB, 6 * 2048 * 512 * 32768 / 1e9
    assert str(plan) == (
        f"one_pass: tiles of {plan.token_chunk:,} tokens x {plan.vocab_chunk:,} classes, "
        f"{mib:,.1f} MiB of workspace, {gflop:,.1f} GFLOP (asked for)"
    )


def test_no_framework_is_loaded():
    program = """
import sys
from loss_spec import Backend, LossOptions, Problem, make_plan
problem = Problem(token_shape=(4,), num_tokens=4, hidden_dim=8, vocab_size=16, dtype="float32")
for framework in ("jax", "torch"):
    print(make_plan(problem, LossOptions(), backend=Backend(framework, "cpu")))
sys.exit(bool({"jax", "torch"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
