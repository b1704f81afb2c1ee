"""The reference process and the tolerance that comes from it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from harness.cases import Case, Measurement, Shape, make_cases
from harness.presets import PRESETS
from harness.reference import compare, inputs_of, write_reference
from harness.scheduler import run_reference
from loss_spec.reference import reference_linear_cross_entropy

SHAPE = Shape(
    batch_size=2, seq_len=8, hidden_dim=4, vocab_size=30, dtype="bfloat16",
    ignored_fraction=0.25, seed=3,
)  # fmt: skip


def test_compare_accepts_the_standard_in_the_same_dtype_and_no_more(tmp_path: Path) -> None:
    run_reference(SHAPE, tmp_path, 60.0)
    inputs = inputs_of(SHAPE)
    rounded = reference_linear_cross_entropy(
        *inputs, compute_dtype=np.float32, round_to=inputs.hidden.dtype
    )
    numerics = compare(rounded[:3], np.asarray, tmp_path)
    for name, limit in numerics["tolerance"].items():
        assert 0 < numerics[name] <= limit
        assert limit < 0.05
    wrong = rounded._replace(grad_weight=rounded.grad_weight * 1.1)
    numerics = compare(wrong[:3], np.asarray, tmp_path)
    assert numerics["grad_weight_error"] > numerics["tolerance"]["grad_weight_error"]
    assert numerics["grad_hidden_error"] <= numerics["tolerance"]["grad_hidden_error"]


def test_float64_is_held_to_float64(tmp_path: Path) -> None:
    shape = Shape(**{**vars(SHAPE), "dtype": "float64"})
    write_reference(shape, tmp_path)
    exact = reference_linear_cross_entropy(*inputs_of(shape))
    numerics = compare(exact[:3], np.asarray, tmp_path)
    assert all(limit < 1e-14 for limit in numerics["tolerance"].values())


def test_reference_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No such file"):
        run_reference(SHAPE, tmp_path / "missing", 60.0)


def test_case_survives_the_pipe() -> None:
    measurement = Measurement(
        warmup=1, repeats=2, timeout_s=3.0, device="cpu", memory_limit_gib=None
    )
    cases = make_cases(
        frameworks=["torch", "jax"], variants=["floor", "standard", "chunked"],
        preset=PRESETS["cpu"], ignored_fraction=0.5, seed=1, options={"vocab_chunk": 64},
        measurement=measurement,
    )  # fmt: skip
    assert [Case.from_json(case.to_json()) for case in cases] == cases
    assert len({case.case_id for case in cases}) == len(cases) == 18
    chunked = [case for case in cases if case.variant == "chunked"]
    assert all(case.options == {"vocab_chunk": 64} for case in chunked)
    assert all(case.options == {} for case in cases if case.variant == "standard")


def test_harness_runs_from_any_directory(tmp_path: Path) -> None:
    """Workers find the packages from where the harness lies, not from where it is called."""
    from tests.harness.conftest import ROOT, TINY, harness_command

    done = subprocess.run(
        harness_command(*TINY, "--framework=torch", "--variants=floor", "--output_dir=here"),
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here").is_dir()
