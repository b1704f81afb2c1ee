"""The cases: each a call that somebody makes and somebody gets wrong.

Each asks one thing: a bias, ignored tokens and a ragged vocabulary have cases of their
own. Where libraries are known for the mistake, `after` names them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from harness.conformance import hard_problems as hard
from harness.conformance.problem import Problem
from loss_spec import FLOAT_DTYPES
from loss_spec.problem import INTEGER_DTYPES


@dataclass(frozen=True, kw_only=True)
class ConformanceCase:
    """A problem, and what is checked: the name of a function in `harness.conformance.checks`."""

    name: str
    make: Callable[[], Problem]
    check: str = "gradients"
    after: str = ""


_EACH_OPTION: dict[str, dict[str, Any]] = {
    "bias": {"has_bias": True},
    "ignored tokens": {"ignored_fraction": 0.4},
    "label_smoothing": {"label_smoothing": 0.1},
    "logit_scale": {"logit_scale": 0.7},
    "logit_softcap": {"logit_softcap": 2.0},
    "z_loss": {"z_loss": 1e-2},
    "class_weight": {"has_class_weight": True},
    "token_weight": {"has_token_weight": True},
}
_SMOOTHED_CLASSES: dict[str, Any] = {"has_class_weight": True, "label_smoothing": 0.1}
_ALL_OPTIONS = {name: value for option in _EACH_OPTION.values() for name, value in option.items()}
_HALF_STEP: dict[str, Any] = {"num_tokens": 8192, "hidden_dim": 16, "vocab_size": 8192}

Make = Callable[[], Problem]


def _shapes() -> dict[str, Make]:
    make = partial(partial, hard.plain)
    return {
        **{f"{dtype}, mean": make(dtype=dtype) for dtype in FLOAT_DTYPES},
        "sum": make(reduction="sum"),
        "none, cotangents of both signs": make(reduction="none"),
        "weight [D, V]": make(vocab_axis=1, reduction="none"),
        "hidden [B, T, D]": partial(hard.batch_axes, reduction="none"),
        "V=507": make(vocab_size=507, reduction="none"),
        "one class": make(num_tokens=7, hidden_dim=5, vocab_size=1),
        "one token": make(num_tokens=1, hidden_dim=33, vocab_size=100),
        "no token, mean": make(num_tokens=0, hidden_dim=5, vocab_size=9),
        "no token, none": make(num_tokens=0, hidden_dim=5, vocab_size=9, reduction="none"),
    }


def _options() -> dict[str, Make]:
    make = partial(partial, hard.plain)
    return {
        **{name: make(**option) for name, option in _EACH_OPTION.items()},
        "class_weight, label_smoothing": make(**_SMOOTHED_CLASSES, reduction="none"),
        **{f"all options, {dtype}": make(**_ALL_OPTIONS, dtype=dtype) for dtype in FLOAT_DTYPES},
        "all options, sum": make(**_ALL_OPTIONS, reduction="sum"),
        "all options, none, [D, V]": make(**_ALL_OPTIONS, reduction="none", vocab_axis=1),
        "all options, hidden [B, T, D]": partial(hard.batch_axes, **_ALL_OPTIONS),
        "return_aux": make(return_aux=True, reduction="none"),
        "return_aux, all options": make(return_aux=True, **_ALL_OPTIONS),
    }


def _labels() -> dict[str, Make]:
    all_ignored = partial(partial, hard.plain, ignored_fraction=1.0)
    return {
        "every token ignored, mean": all_ignored(),
        "every token ignored, sum": all_ignored(reduction="sum"),
        "every token ignored, none": all_ignored(reduction="none"),
        "every token ignored, all options": all_ignored(
            **{**_ALL_OPTIONS, "ignored_fraction": 1.0}
        ),
        "every token weight 0, mean": hard.all_token_weights_zero,
        "token_weight 0 where ignored": hard.weight_zero_where_ignored,
        "ignore_index in [0, V)": hard.ignore_index_that_is_a_class,
        **{f"labels of {dtype}": partial(hard.labels_of, dtype) for dtype in INTEGER_DTYPES},
    }


def _extremes() -> dict[str, Make]:
    make = partial(partial, hard.plain, reduction="none")
    large_logits = partial(partial, hard.large_logits, reduction="none")
    certain = hard.certain_and_a_few_open
    return {
        "activations x 30, bfloat16": make(dtype="bfloat16", hidden_scale=30.0),
        "activations x 1000, bfloat16": make(dtype="bfloat16", hidden_scale=1000.0),
        "activations x 1000, float32": large_logits(1e3),
        "logits of 1e4, float32": large_logits(1e4),
        "logits of 1e4, all options": large_logits(1e4, **_ALL_OPTIONS),
        "all logits shifted by 1e4": partial(hard.shifted_logits, "float32"),
        "classes masked by -inf": hard.masked_classes,
        "certain tokens, logit_scale": partial(certain, 1e4, logit_scale=0.37),
        "certain tokens, logit_scale < 0": partial(certain, 1e4, logit_scale=-0.37),
        "certain tokens, logit_softcap": partial(certain, 40.0, logit_softcap=30.0),
        "softcap 1, logits at -300, V=300": partial(hard.capped_far_below, 300),
        "softcap 1, logits at -300, V=507": partial(hard.capped_far_below, 507),
        "V=2049": partial(hard.large, num_tokens=16, hidden_dim=32, vocab_size=2049),
        "V=152063": partial(hard.large, num_tokens=32, hidden_dim=32, vocab_size=152063),
        "bfloat16 mean over 262144 tokens": partial(
            hard.large, dtype="bfloat16", num_tokens=262144, hidden_dim=8, vocab_size=64
        ),
        "bfloat16 mean, N=8192, V=8192": partial(hard.large, dtype="bfloat16", **_HALF_STEP),
        "bfloat16 sums over many chunks": partial(hard.growing_sums, "bfloat16"),
        "float16 sums over many chunks": partial(hard.growing_sums, "float16"),
        "float16 gradients below its range": hard.small_probabilities,
    }


def _gradients() -> dict[str, Make]:
    frozen = partial(partial, hard.frozen)
    return {
        "frozen hidden, mean": frozen("weight", "bias"),
        "frozen hidden, none": frozen("weight", "bias", reduction="none"),
        "frozen weight": frozen("hidden"),
        "frozen hidden and weight": frozen("bias"),
        "z_loss of confident tokens": hard.confident_tokens,
    }


_KNOWN_MISTAKES = {
    "V=507": "tokamax: columns that pad the weight enter the logsumexp",
    "V=2049": "tokamax: columns that pad the weight enter the logsumexp",
    "V=152063": "tokamax: columns that pad the weight enter the logsumexp",
    "bfloat16 mean, N=8192, V=8192": "PyTorch, tokamax: losses summed in bfloat16",
    "ignored tokens": "tokamax: label -100 is not ignored",
    "bfloat16 sums over many chunks": "PyTorch, Liger, CCE, torchtune: dW summed in bfloat16",
    "softcap 1, logits at -300, V=300": "CCE, older Liger: -inf padding is finite after the cap",
    "z_loss of confident tokens": "CCE: z-loss is lost by gradient filtering",
    "every token ignored, mean": "CCE, torchtune, PyTorch: raises or NaN",
    "frozen hidden, mean": "Liger: weight.grad stays None",
    "none, cotangents of both signs": "older Liger: a wrong dW",
    "token_weight 0 where ignored": "levanter: inf * 0 = NaN",
    "activations x 1000, bfloat16": "levanter: 16-bit logits forward, float32 backward",
    "second backward, another cotangent": "mgmalek, quack, Liger: saved gradients scaled in place",
    "forward mode": "PyTorch: torch.func.jvp gives a tangent of 0",
    "functional gradient": "PyTorch: torch.func.grad raises",
}


def _table() -> list[ConformanceCase]:
    scalar = partial(hard.plain, dtype="float64", num_tokens=7, hidden_dim=9, vocab_size=31)
    none = partial(hard.plain, reduction="none")
    out_of_range = hard.label_out_of_range
    checked_otherwise: dict[str, tuple[str, Make]] = {
        "label V": ("label_refused", partial(out_of_range, 2048)),
        "label -7": ("label_refused", partial(out_of_range, -7)),
        "NaN in hidden": ("propagates", partial(hard.not_finite, np.nan)),
        "inf in hidden": ("propagates", partial(hard.not_finite, np.inf)),
        "second backward": ("second_backward", hard.plain),
        "second backward, none": ("second_backward", none),
        "second backward, another cotangent": ("other_cotangent", hard.plain),
        "functional gradient": ("functional", none),
        "forward mode": ("forward_mode", scalar),
        "second derivative": ("second_derivative", scalar),
    }
    groups = _shapes() | _options() | _labels() | _extremes() | _gradients()
    table = {name: ("gradients", make) for name, make in groups.items()} | checked_otherwise
    return [
        ConformanceCase(name=name, make=make, check=check, after=_KNOWN_MISTAKES.get(name, ""))
        for name, (check, make) in table.items()
    ]


CASES = {case.name: case for case in _table()}
