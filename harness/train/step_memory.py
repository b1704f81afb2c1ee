"""The memory of a whole training step of an example.

Takes what an example's `main` returns. A framework is loaded by what measures a step of it,
and by nothing else here. Measuring takes steps: the weights are not to be used afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from harness.memory.figures import Reading
from harness.memory.host_rss import host_rss

TrainStep = Callable[[Any, Any, Any], Any]


class StepMemory(NamedTuple):
    """What a whole training step needs, by every probe there is; the first one counts."""

    state_bytes: int
    """weights and optimizer state, which are there all the time"""
    readings: list[Reading]

    def to_json(self) -> dict[str, Any]:
        first, peaks = self.readings[0], {}
        for reading in self.readings:
            peaks[reading.probe] = self.state_bytes + reading.additional_bytes
        return {
            "state_bytes": self.state_bytes, "peak_bytes": peaks[first.probe],
            "probe": first.probe, "peak_bytes_by_probe": peaks,
        }  # fmt: skip


def torch_step_memory(model: Any, optimizer: Any, train_step: TrainStep, tokens: Any) -> StepMemory:
    """On the device of the model."""
    from harness.memory import allocator_events, cuda_allocator

    def step() -> object:
        return train_step(model, optimizer, tokens)

    optimizer.zero_grad()
    moments = [each for state in optimizer.state.values() for each in state.values()]
    state_bytes = sum(tensor.nbytes for tensor in [*model.parameters(), *moments])
    if next(model.parameters()).device.type == "cuda":
        counted = cuda_allocator.peak_allocated_bytes(step)
        return StepMemory(state_bytes, [Reading(cuda_allocator.PROBE, counted)])
    listed = Reading(allocator_events.PROBE, allocator_events.peak_allocated_bytes(step))
    optimizer.zero_grad()
    resident = host_rss(step)  # None where the kernel does not tell
    return StepMemory(state_bytes, [listed, *([resident] if resident else [])])


def jax_step_memory(model: Any, optimizer: Any, train_step: Any, tokens: Any) -> StepMemory:
    """Of a step that `nnx.jit` compiles.

    A GPU counts the peak of the process's whole life, of which the steps are the largest part.
    """
    import jax
    from flax import nnx

    from harness.memory import buffer_assignment, device_stats

    state = [nnx.to_pure_dict(nnx.state(node)) for node in (model, optimizer)]
    state_bytes = sum(array.nbytes for array in jax.tree.leaves(state))
    del state
    if (counted := device_stats.peak_bytes(jax.devices()[0])) is not None:
        return StepMemory(state_bytes, [Reading(device_stats.PROBE, counted - state_bytes)])
    compiled = train_step.lower(model, optimizer, tokens).compile().compiled
    assigned = buffer_assignment.assigned_bytes(compiled)
    beyond = buffer_assignment.peak_bytes(assigned) - state_bytes
    resident = host_rss(lambda: train_step(model, optimizer, tokens).block_until_ready())
    readings = [Reading(buffer_assignment.PROBE, beyond), *([resident] if resident else [])]
    return StepMemory(state_bytes, readings)


MEASURES = {"torch": torch_step_memory, "jax": jax_step_memory}
