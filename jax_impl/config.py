"""What is static about a call, as the loops take it."""

from __future__ import annotations

from typing import Any, NamedTuple

from jax import lax

from loss_spec import Objective


class Config(NamedTuple):
    """Hashable, so that it can be a static argument of `jax.jit`."""

    objective: Objective
    reduction: str
    vocab_axis: int
    vocab_chunk: int
    token_chunk: int
    prediction: bool
    """whether somebody asked for the statistics of a `LossAux`"""
    precision: lax.PrecisionLike


class Gradients(NamedTuple):
    """One array for each input; None where it is not needed."""

    hidden: Any
    weight: Any
    bias: Any
