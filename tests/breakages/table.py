"""All deliberate breakages, and the tests that each package must pass."""

from __future__ import annotations

from tests.breakages import (
    harness_judgement,
    harness_memory,
    harness_records,
    jax_impl,
    loss_spec,
    torch_impl,
)

BREAKAGES = (
    *loss_spec.BREAKAGES,
    *jax_impl.BREAKAGES,
    *torch_impl.BREAKAGES,
    *harness_memory.BREAKAGES,
    *harness_records.BREAKAGES,
    *harness_judgement.BREAKAGES,
)

# The quick ones first. What loss_spec promises of memory and speed, the implementations' own
# tests measure.
TEST_FOLDERS = {
    "loss_spec": ("tests/loss_spec", "tests/conformance", "tests/torch_impl", "tests/jax_impl"),
    "jax_impl": ("tests/jax_impl", "tests/conformance"),
    "torch_impl": ("tests/torch_impl", "tests/conformance"),
    "harness": ("tests/harness",),
}
