"""The options of the loss and what each may be.

One frozen value carries them from the public functions to the chunk loops. It
is hashable, so JAX can take it as a static argument.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, NamedTuple

REDUCTIONS = ("mean", "sum", "none")
STRATEGIES = ("auto", "two_pass", "one_pass")


class Objective(NamedTuple):
    """The loss as a function of the bare logits: what the chunk loops need to know."""

    label_smoothing: float = 0.0
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    z_loss: float = 0.0

    @property
    def logit_factor(self) -> float:
        """What a score is multiplied by to be a logit, >= 0.

        The loops work on scores, and multiply after they have subtracted: the logit of
        the largest score may be rounded once in one loop and, where the compiler fuses a
        multiplication with a subtraction, not at all in another. At logits of 1e4 that
        would make the probability of a certain class 1.001.
        """
        return abs(self.logit_scale) if self.logit_softcap is None else self.logit_softcap


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Everything about a loss that is not an array.

    See `jax_impl.linear_cross_entropy` or `torch_impl.linear_cross_entropy` for
    what each field means. The chunk sizes are None where the plan should choose.

    Raises `TypeError` or `ValueError` naming the field, what was expected and
    what was got.
    """

    vocab_axis: int = 0
    ignore_index: int = -100
    reduction: str = "mean"
    label_smoothing: float = 0.0
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    z_loss: float = 0.0
    strategy: str = "auto"
    vocab_chunk: int | None = None
    token_chunk: int | None = None
    memory_budget: int | None = None
    return_aux: bool = False

    def __post_init__(self) -> None:
        self._set("vocab_axis", _one_of("vocab_axis", self.vocab_axis, (0, 1)))
        self._set("ignore_index", _integer("ignore_index", self.ignore_index))
        self._set("reduction", _one_of("reduction", self.reduction, REDUCTIONS))
        for name in ("label_smoothing", "logit_scale", "logit_softcap", "z_loss"):
            if (value := getattr(self, name)) is not None or name != "logit_softcap":
                self._set(name, _real(name, value))
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(
                f"label_smoothing: expected a number in [0, 1), got {self.label_smoothing}"
            )
        if self.logit_softcap is not None and self.logit_softcap <= 0.0:
            raise ValueError(
                f"logit_softcap: expected None or a number > 0, got {self.logit_softcap}"
            )
        self._set("strategy", _one_of("strategy", self.strategy, STRATEGIES))
        for name in ("vocab_chunk", "token_chunk", "memory_budget"):
            if (value := getattr(self, name)) is not None:
                self._set(name, _positive_integer(name, value))
        if not isinstance(self.return_aux, bool):
            raise TypeError(f"return_aux: expected True or False, got {self.return_aux!r}")

    @property
    def objective(self) -> Objective:
        return Objective(self.label_smoothing, self.logit_scale, self.logit_softcap, self.z_loss)

    def _set(self, name: str, value: object) -> None:
        """Stores the normalised value: a NumPy integer becomes a plain, hashable int."""
        object.__setattr__(self, name, value)


def check_option_names(
    given: Iterable[str], *, beside: Sequence[str] = (), elsewhere: Mapping[str, str] | None = None
) -> None:
    """Raises `TypeError` for a name that is no option of the loss, before it is called.

    `beside` are names that the caller takes as well; `elsewhere` are options that it does not
    take, each with what to do instead.
    """
    elsewhere = elsewhere or {}
    known = [field.name for field in fields(LossOptions) if field.name not in elsewhere]
    for name in given:
        if name in elsewhere:
            raise TypeError(f"{name}: not an option of this loss: {elsewhere[name]}")
        if name not in (*known, *beside):
            raise TypeError(f"{name}: expected one of {', '.join([*known, *beside])}")


def _one_of(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    try:
        # bool is an int in Python, but vocab_axis=True is a mistake.
        if not isinstance(value, bool) and value in choices:
            return choices[choices.index(value)]
    except (TypeError, ValueError, RuntimeError):
        pass  # an array, which is neither equal nor unequal
    expected = ", ".join(repr(choice) for choice in choices)
    raise ValueError(f"{name}: expected one of {expected}, got {value!r}")


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None


def _positive_integer(name: str, value: Any) -> int:
    number = _integer(name, value)
    if number <= 0:
        raise ValueError(f"{name}: expected None or an integer > 0, got {number}")
    return number


def _real(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a real number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # not printed: it may have more digits than Python writes
        raise ValueError(f"{name}: expected a finite number, got one beyond float64") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError(f"{name}: expected a finite number, got {number}")
    return number
