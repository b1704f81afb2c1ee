"""The reference process and the tolerance that comes from it."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness.prediction.run as prediction_run
from harness import gpu_reference, sweep
from harness.cases import Case, Measurement, Shape, make_case, make_cases
from harness.prediction.duration import reference_s
from harness.prediction.speed import flops_per_s
from harness.presets import PRESETS
from harness.reference import compare, inputs_of, write_reference
from harness.scheduler import run_case, run_reference
from loss_spec.reference import reference_linear_cross_entropy

SHAPE = Shape(
    batch_size=2, seq_len=8, hidden_dim=4, vocab_size=30, dtype="bfloat16",
    ignored_fraction=0.25, seed=3,
)  # fmt: skip
ANSWER = {"reference.json", "grad_hidden.npy", "grad_weight.npy"}
INPUTS = {"hidden.npy", "weight.npy", "labels.npy"}


def measurement_on(device: str) -> Measurement:
    return Measurement(warmup=0, repeats=1, timeout_s=60.0, device=device, memory_limit_gib=None)


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A GPU, or so it seems: a CPU does its work. What was asked of it, by device."""
    asked: list[str] = []
    work_out = gpu_reference.linear_cross_entropy

    def on_cpu(*arrays: Any, device: str, **computing: Any) -> Any:
        asked.append(device)
        return work_out(*arrays, device="cpu", **computing)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_reference, "linear_cross_entropy", on_cpu)
    return asked


def test_compare_accepts_the_standard_in_the_same_dtype_and_no_more(tmp_path: Path) -> None:
    run_reference(SHAPE, "cpu", tmp_path, 60.0)
    inputs = inputs_of(SHAPE)
    rounded = reference_linear_cross_entropy(
        *inputs, compute_dtype=np.float32, round_to=inputs.hidden.dtype
    )
    numerics = compare(rounded[:3], np.asarray, tmp_path)
    # Of figures in these dtypes: the loss of 16-bit inputs is a float32.
    units = {"loss_error": 2**-23, "grad_hidden_error": 2**-7, "grad_weight_error": 2**-7}
    for name, limit in numerics["tolerance"].items():
        assert numerics[name] > 0
        assert limit == pytest.approx(2 * numerics[name] + units[name], rel=0.01)
    wrong = rounded._replace(grad_weight=rounded.grad_weight * 1.1)
    numerics = compare(wrong[:3], np.asarray, tmp_path)
    assert numerics["grad_weight_error"] > numerics["tolerance"]["grad_weight_error"]
    assert numerics["grad_hidden_error"] <= numerics["tolerance"]["grad_hidden_error"]


def test_float64_is_held_to_float64(tmp_path: Path) -> None:
    """The standard in NumPy is the answer itself, with no error to allow for."""
    shape = Shape(**{**vars(SHAPE), "dtype": "float64"})
    write_reference(shape, tmp_path)
    exact = reference_linear_cross_entropy(*inputs_of(shape))
    numerics = compare(exact[:3], np.asarray, tmp_path)
    assert all(limit == pytest.approx(1e-12, rel=0.01) for limit in numerics["tolerance"].values())


def test_reference_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="No such file"):
        run_reference(SHAPE, "cpu", tmp_path / "missing", 60.0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_gpu_gives_the_same_answer(tmp_path: Path, on_gpu: list[str], dtype: str) -> None:
    shape = dataclasses.replace(SHAPE, dtype=dtype)
    folders = {device: tmp_path / device for device in ("cpu", "gpu")}
    for device, folder in folders.items():
        folder.mkdir()
        write_reference(shape, folder, device)
    assert on_gpu == ["cuda", "cuda"]  # exact, and as the standard rounds
    exact = reference_linear_cross_entropy(*inputs_of(shape))
    found, expected = (compare(exact[:3], np.asarray, folder) for folder in folders.values())
    room = 0.5 if dtype == "float32" else 0.1  # what the order of a sum makes of it
    for name, limit in expected["tolerance"].items():
        assert found[name] < 1e-14
        assert found["tolerance"][name] == pytest.approx(limit, rel=room)
    written = {
        device: {each.name for each in folder.iterdir()} for device, folder in folders.items()
    }
    assert written == {"cpu": ANSWER, "gpu": ANSWER | INPUTS}


@pytest.mark.parametrize("lacking", ["PyTorch", "GPU", "room"])
def test_numpy_does_what_the_gpu_cannot(
    tmp_path: Path, on_gpu: list[str], monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    def refuse(*arrays: Any, device: str, **computing: Any) -> Any:
        on_gpu.append(device)
        raise torch.OutOfMemoryError

    if lacking == "PyTorch":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    elif lacking == "GPU":
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    else:
        monkeypatch.setattr(gpu_reference, "linear_cross_entropy", refuse)
    write_reference(SHAPE, tmp_path, "gpu")
    assert on_gpu == (["cuda"] if lacking == "room" else [])
    exact = reference_linear_cross_entropy(*inputs_of(SHAPE))
    assert compare(exact[:3], np.asarray, tmp_path)["grad_weight_error"] == 0


def test_device_of_the_cases_reaches_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a GPU or without: the inputs are there for the workers."""
    asked: list[str] = []

    def run(shape: Shape, device: str, directory: Path, timeout_s: float) -> None:
        asked.append(device)
        run_reference(shape, device, directory, timeout_s)

    monkeypatch.setattr(sweep, "run_reference", run)
    for device, files in (("cpu", ANSWER), ("gpu", ANSWER | INPUTS)):
        case = make_case("torch", "standard", SHAPE, measurement_on(device), {})
        folder = sweep._reference(case, {}, str(tmp_path))
        assert isinstance(folder, Path)
        assert {each.name for each in folder.iterdir()} == files
    assert asked == ["cpu", "gpu"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_inputs_are_mapped_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    shape = dataclasses.replace(SHAPE, dtype=dtype)
    write_reference(shape, tmp_path, "gpu")
    for _ in range(2):  # what a worker writes to them is its own
        for mapped, drawn in zip(inputs_of(shape, tmp_path), inputs_of(shape), strict=True):
            assert isinstance(mapped, np.memmap)
            assert (mapped.dtype, mapped.shape) == (drawn.dtype, drawn.shape)
            assert mapped.tobytes() == drawn.tobytes()
            mapped[:] = 0


@pytest.mark.usefixtures("workers_here")
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_worker_maps_what_was_drawn_for_it(tmp_path: Path, framework: str) -> None:
    """Seen by what it makes of other inputs than those of the seed."""
    write_reference(SHAPE, tmp_path, "gpu")
    case = make_case(framework, "standard", SHAPE, measurement_on("cpu"), {})
    result = run_case(case, "run", {"versions": {}}, tmp_path, tmp_path / "traces")
    assert (result["status"], result["error"]) == ("ok", None)
    np.save(tmp_path / "weight.npy", np.zeros((30, 4), np.uint16))
    result = run_case(case, "run", {"versions": {}}, tmp_path, tmp_path / "traces")
    assert result["status"] == "mismatch"
    assert result["numerics"]["loss"] == pytest.approx(math.log(30))


def test_prediction_is_for_the_device_that_works_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the head of Gemma 2 a fast CPU needs minutes."""
    asked: list[tuple[str, str]] = []

    def speed(device: str, dtype: str) -> float:
        asked.append((device, dtype))
        return 1e12 if device == "cpu" else flops_per_s(device, dtype)

    monkeypatch.setattr(prediction_run, "flops_per_s", speed)
    shape = Shape(
        batch_size=1, seq_len=8192, hidden_dim=2304, vocab_size=256000, dtype="bfloat16",
        ignored_fraction=0.0, seed=0,
    )  # fmt: skip
    on_cpu, on_gpu = (
        prediction_run.answer_s(make_case("torch", "standard", shape, measurement_on(device), {}))
        for device in ("cpu", "gpu")
    )
    assert asked == [("cpu", "float64"), ("gpu", "float64")]
    assert flops_per_s("gpu", "float64") == 30e12
    matmuls = 3 * 6 * 8192 * 2304 * 256000
    assert on_cpu == pytest.approx(matmuls / 1e12)
    assert on_gpu < on_cpu
    at_half_the_speed = reference_s(shape, "gpu", 15e12)
    assert at_half_the_speed - on_gpu == pytest.approx(matmuls / 30e12)


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
