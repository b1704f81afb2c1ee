"""Each probe measures an allocation of known size."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from harness.memory.host_rss import host_rss_growth_bytes, status_bytes
from tests.harness.conftest import ROOT

MIB = 2**20


def test_host_rss_sees_what_a_step_held_at_its_worst_moment() -> None:
    def step() -> np.ndarray:
        kept = np.ones(32 * MIB, np.uint8)
        dropped = np.ones(96 * MIB, np.uint8)
        return kept if dropped[0] else dropped

    for _ in range(2):  # the second begins after a higher mark, and must not see it
        growth = host_rss_growth_bytes(step)
        assert growth == pytest.approx(128 * MIB, rel=0.03)
    assert host_rss_growth_bytes(lambda: None) < MIB


def test_allocator_events_count_the_peak_and_not_the_sum() -> None:
    torch = pytest.importorskip("torch")
    from harness.memory.allocator_events import peak_allocated_bytes

    def step() -> object:
        first = torch.ones(MIB)  # 4 MiB
        del first
        second, third = torch.ones(2 * MIB), torch.ones(MIB)
        del second
        return third

    kept = torch.ones(64 * MIB)
    for _ in range(2):  # an earlier profile leaves nothing in a later one
        result = peak_allocated_bytes(step)
        assert result == 12 * MIB
    del kept


def test_buffer_assignment_counts_arguments_outputs_and_temporaries() -> None:
    jax = pytest.importorskip("jax")
    from harness.memory.buffer_assignment import assigned_bytes, peak_bytes

    def through_a_square(column, row):
        return jax.numpy.sort(column @ row, axis=0).sum()  # sorts a [1024, 1024] temporary

    column, row = np.ones((1024, 1), np.float32), np.ones((1, 1024), np.float32)
    assigned = assigned_bytes(jax.jit(through_a_square).lower(column, row).compile())
    assert assigned["argument"] == 8 * 1024
    assert assigned["output"] == 4
    assert assigned["alias"] == 0
    assert 4 * MIB <= assigned["temp"] < 9 * MIB
    assert peak_bytes(assigned) == assigned["argument"] + 4 + assigned["temp"]


@pytest.mark.parametrize(("size_mib", "fits"), [(150, True), (300, False)])
def test_data_limit_bounds_the_arrays_of_a_step(size_mib: int, fits: bool) -> None:
    code = f"""
import numpy as np
from harness.memory.limit import data_limit
inputs = np.ones(50 * 2**20, np.uint8)
try:
    with data_limit(250 * 2**20, inputs.nbytes):
        np.ones({size_mib} * 2**20, np.uint8)
except MemoryError:
    np.ones(500 * 2**20, np.uint8)  # the limit is gone afterwards
    raise SystemExit(3)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert done.returncode == (0 if fits else 3)


def test_status_bytes_names_what_is_not_there() -> None:
    assert status_bytes("VmRSS") > MIB
    with pytest.raises(OSError, match="VmNonsense"):
        status_bytes("VmNonsense")
