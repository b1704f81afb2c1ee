"""How many matrix products a step is made of, from the profiler's events."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def count_flops(step: Callable[[], object]) -> float:
    """Of the matrix products alone; a product of [a, b] and [b, c] is 2abc.

    Not by `FlopCounterMode`: that does not see what a custom operator calls.
    """
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiler:
        step()
    return sum(event.flops or 0 for event in profiler.events() if event.name == "aten::addmm")
