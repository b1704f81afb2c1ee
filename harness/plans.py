"""What our losses say beforehand: asked of them by a worker, worked out alone by the parent."""

from __future__ import annotations

import dataclasses
from math import ceil
from typing import Any

from harness.cases import Case, Shape
from harness.targets import load_target
from loss_spec import Backend, LossOptions, Needs, Plan, Problem, make_plan
from loss_spec.cpu import multiplies_bfloat16

MIB = 2**20


def plan_of_loss(case: Case, *arrays: Any) -> dict[str, Any] | None:
    """The record's `plan`: what the loss itself says of these arrays; None for one that is mute."""
    if case.plan_target is None:
        return None
    return dataclasses.asdict(load_target(case.plan_target)(*arrays, **case.options))


def plan_of(framework: str, device: str, shape: Shape, options: dict[str, Any]) -> Plan:
    """The same without a framework.

    Raises `ValueError` as the loss does.
    """
    problem = Problem(
        token_shape=(shape.batch_size, shape.seq_len),
        num_tokens=shape.num_tokens,
        hidden_dim=shape.hidden_dim,
        vocab_size=shape.vocab_size,
        dtype=shape.dtype,
    )
    widens = device == "cpu" and (
        shape.dtype == "float16"
        or (shape.dtype == "bfloat16" and not multiplies_bfloat16(framework))
    )
    backend = Backend(framework, device, widens)
    needs = Needs(hidden=True, weight=True, bias=False)
    return make_plan(problem, LossOptions(**options), backend=backend, needs=needs)


def refused_budget(case: Case) -> str | None:
    """Why the loss would refuse the case's memory budget, None where it would not."""
    if "memory_budget" not in case.options:
        return None
    try:
        plan_of(case.framework, case.measurement.device, case.shape, case.options)
    except ValueError as error:
        return f"{case.framework} {case.variant} at V={case.shape.vocab_size}: {error}"
    return None


def budget_bytes(mebibytes: float) -> int:
    return max(1, ceil(mebibytes * MIB))
