"""What is static about a call, as the loops take it."""

from __future__ import annotations

from typing import NamedTuple

import torch

from loss_spec import Objective


class Config(NamedTuple):
    """Options and tile sizes; plain values, which an operator can take one by one."""

    objective: Objective
    reduction: str
    vocab_chunk: int
    token_chunk: int
    """0 before an operator has chosen; so are a vocab_chunk and a budget that nobody gave"""
    memory_budget: int
    prediction: bool
    """whether somebody asked for the statistics of a `LossAux`"""
    dtype: torch.dtype
    """of the operands of the matmuls: that of the inputs, or autocast's"""
