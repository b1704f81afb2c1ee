"""The table that `python -m harness.conformance` holds against everyone, for ours."""

from __future__ import annotations

import functools
import zlib

import pytest

from harness.conformance.cases import CASES
from harness.conformance.checks import RIGHT, WRONG, has_answer
from harness.conformance.judge import judge
from harness.conformance.problem import solve
from tests.conformance.evaluation import CHUNKED, STANDARD
from tests.tables import optimized, slow

# What our standard gets wrong, and why that is how a standard is.
STANDARD_IS_WRONG = {
    # Rounds its logit gradients to float16, as every full-logits loss of PyTorch does.
    ("torch", "float16 gradients below its range"),
}

# And where it may: beside a certain class, most of what the others add to the sum of exponentials
# is rounded off, in one of as many sums as a vector has numbers. Of 8 that is more than the rule
# allows, of 16, as in AVX-512, it is not.
STANDARD_NEEDS_LONG_VECTORS = {("torch", "certain tokens, logit_softcap")}

TWO_PASS = "two_pass"
# The fast tier runs every case with the loss that users call, and a quarter of them, drawn by
# name, with the other two. These are always slow for those two: they take seconds, or (the last)
# XLA without its optimisations rounds the tanh of the second pass differently from the first.
ALWAYS_SLOW = (
    "bfloat16 mean, N=8192, V=8192",
    "bfloat16 mean over 262144 tokens",
    "V=152063",
    "certain tokens, logit_softcap",
)


def is_slow(name, function):
    return name in ALWAYS_SLOW or zlib.crc32(f"{function} {name}".encode()) % 4 != 0


FUNCTIONS = [pytest.param(name, CHUNKED, marks=optimized) for name in CASES] + [
    pytest.param(name, function, marks=slow if is_slow(name, function) else ())
    for function in (STANDARD, TWO_PASS)
    for name in CASES
]


@functools.cache
def answer_of(name):
    case = CASES[name]
    return solve(case.make()) if has_answer(case.check) else None


def skip_with_short_vectors():
    torch = pytest.importorskip("torch")
    on_cpu = torch.get_default_device().type == "cpu"
    if on_cpu and torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("PyTorch's log_softmax adds up in vectors of less than 16 numbers here")


@pytest.mark.parametrize(("name", "function"), FUNCTIONS)
def test_case(framework, function, name):
    """Problems this small have one pass unless two are asked for."""
    if function == TWO_PASS:
        target = functools.partial(framework.implementation.linear_cross_entropy, strategy=TWO_PASS)
    else:
        target = getattr(framework.implementation, function)
    if function == STANDARD and (framework.name, name) in STANDARD_NEEDS_LONG_VECTORS:
        skip_with_short_vectors()
    case = CASES[name]
    verdict = judge(case, case.make(), answer_of(name), framework.adapter, target)
    is_exception = function == STANDARD and (framework.name, name) in STANDARD_IS_WRONG
    assert verdict.status == (WRONG if is_exception else RIGHT), verdict
