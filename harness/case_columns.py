"""What tells the cases of a run apart, and what they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.case_lines import variant_with_options
from harness.cases import Case

_LETTERS = {"num_tokens": "N", "vocab_size": "V"}

_SIZES: dict[str, Callable[[Case], str]] = {
    "N": lambda case: f"{case.shape.num_tokens:,}",
    "D": lambda case: f"{case.shape.hidden_dim:,}",
    "V": lambda case: f"{case.shape.vocab_size:,}",
    "dtype": lambda case: case.shape.dtype,
}


def columns_apart(cases: Sequence[Case]) -> dict[str, list[str]]:
    """By their heads, the columns that name each case: of its sizes those in which they differ."""
    return {
        "framework": [case.framework for case in cases],
        "variant": [_variant(case) for case in cases],
        **{name: values for name, values in _sizes(cases).items() if len(set(values)) > 1},
    }


def shared_line(cases: Sequence[Case]) -> str:
    """The sizes that all cases share, e.g. "N=2,048, D=512, V from 8,192, float32"."""
    grows = {_LETTERS[case.axis] for case in cases if case.axis}
    parts = []
    for name, values in _sizes(cases).items():
        if len(set(values)) == 1:
            joint = " from " if name in grows else "="
            parts.append(values[0] if name == "dtype" else f"{name}{joint}{values[0]}")
    return ", ".join(parts)


def _sizes(cases: Sequence[Case]) -> dict[str, list[str]]:
    return {name: [size(case) for case in cases] for name, size in _SIZES.items()}


def _variant(case: Case) -> str:
    return " ".join([variant_with_options(case), *(["again"] if case.is_repetition else [])])
