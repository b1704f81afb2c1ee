"""The plan for tensors: what PyTorch knows of the device, the autocast and the gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from loss_spec import Backend, LossOptions, Needs, Plan, Problem, make_plan
from torch_impl.config import Config
from torch_impl.matmul import operand_dtype


def plan_for(
    problem: Problem, options: LossOptions, needs: Needs, hidden: Tensor, weight: Tensor
) -> Plan:
    device, dtype = hidden.device, getattr(torch, problem.dtype)
    backend = Backend(
        "torch",
        "cpu" if device.type == "cpu" else "gpu",
        widens=operand_dtype(dtype, device) != dtype,
        casts=not hidden.dtype == weight.dtype == dtype,
    )
    return make_plan(problem, options, backend=backend, needs=needs)


def with_tiles(config: Config, needs: Needs, hidden: Tensor, weight: Tensor) -> Config:
    """The config of an operator, which knows the sizes when it runs.

    `torch.compile` may have one program for many sizes, and should not see the search for
    the best tiles in it.
    """
    problem = Problem(
        token_shape=(hidden.shape[0],),
        num_tokens=hidden.shape[0],
        hidden_dim=hidden.shape[1],
        vocab_size=weight.shape[0],
        dtype=str(config.dtype).removeprefix("torch."),
    )
    options = LossOptions(
        logit_softcap=config.objective.logit_softcap,
        strategy="two_pass",
        vocab_chunk=config.vocab_chunk or None,
        token_chunk=config.token_chunk or None,
        memory_budget=config.memory_budget or None,
    )
    chosen = plan_for(problem, options, needs, hidden, weight)
    return config._replace(vocab_chunk=chosen.vocab_chunk, token_chunk=chosen.token_chunk)
