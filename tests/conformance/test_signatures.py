"""The public functions have the same parameters in both frameworks: those of the contract."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import jax_impl
import torch_impl
from harness.conformance.problem import make_problem

ARRAYS = ("hidden", "weight", "labels")
OPTIONS = {
    "bias": None,
    "vocab_axis": 0,
    "ignore_index": -100,
    "reduction": "mean",
    "label_smoothing": 0.0,
    "logit_scale": 1.0,
    "logit_softcap": None,
    "z_loss": 0.0,
    "class_weight": None,
    "token_weight": None,
    "strategy": "auto",
    "vocab_chunk": None,
    "token_chunk": None,
    "memory_budget": None,
    "return_aux": False,
}
CHUNKING = ("strategy", "vocab_chunk", "token_chunk", "memory_budget")
STANDARD_OPTIONS = {name: value for name, value in OPTIONS.items() if name not in CHUNKING}

SIGNATURES = {
    "jax": (jax_impl.linear_cross_entropy, OPTIONS | {"precision": None}),
    "torch": (torch_impl.linear_cross_entropy, OPTIONS),
    "jax standard": (
        jax_impl.standard_linear_cross_entropy,
        STANDARD_OPTIONS | {"precision": None},
    ),
    "torch standard": (torch_impl.standard_linear_cross_entropy, STANDARD_OPTIONS),
}


@pytest.mark.parametrize(("function", "options"), SIGNATURES.values(), ids=SIGNATURES)
def test_names_order_and_defaults(function, options):
    parameters = inspect.signature(function).parameters
    assert list(parameters) == [*ARRAYS, *options]
    for name in ARRAYS:
        assert parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert parameters[name].default is inspect.Parameter.empty
    for name, default in options.items():
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[name].default == default
        assert type(parameters[name].default) is type(default)


@pytest.mark.parametrize("module", [jax_impl, torch_impl], ids=["jax", "torch"])
def test_exports(module):
    own = ["LinearCrossEntropyLoss", "causal_lm_loss"] if module is torch_impl else []
    assert set(module.__all__) == {
        *own,
        "LossAux",
        "Plan",
        "linear_cross_entropy",
        "memory_efficient_cross_entropy",
        "plan",
        "standard_linear_cross_entropy",
    }
    names = list(inspect.signature(module.memory_efficient_cross_entropy).parameters)
    assert names == ["hidden", "weight_matrix", "labels", "options"]


def test_memory_efficient_cross_entropy_is_the_loss_of_a_transposed_weight(framework):
    problem = make_problem(vocab_axis=1, reduction="none")
    arrays = problem.hidden, problem.weight, problem.labels
    options = {"bias": problem.bias, "reduction": "none", "vocab_chunk": 100, "token_chunk": 7}
    np.testing.assert_array_equal(
        framework.call("memory_efficient_cross_entropy", *arrays, **options),
        framework.call("linear_cross_entropy", *arrays, vocab_axis=1, **options),
    )


@pytest.mark.parametrize("vocab_axis", [0, 1])
def test_memory_efficient_cross_entropy_has_no_vocab_axis(framework, vocab_axis):
    problem = make_problem(vocab_axis=1)
    arrays = problem.hidden, problem.weight, problem.labels
    with pytest.raises(TypeError, match=r"^vocab_axis: weight_matrix is \[D, V\]"):
        framework.call("memory_efficient_cross_entropy", *arrays, vocab_axis=vocab_axis)
