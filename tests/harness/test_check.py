"""Whether a machine can measure: what is here, what is missing, and what only the tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from harness import check
from harness.environment import describe_gpu


def rows(captured: str) -> dict[str, str]:
    """What stands beside each name."""
    lines = [line.split(None, 1) for line in captured.splitlines() if line.strip()]
    return {line[0]: line[1] for line in lines if len(line) == 2}


def test_this_machine_can(capsys):
    assert check.main(["--device=cpu", "--framework=torch"]) == 0
    said = capsys.readouterr().out
    assert rows(said)["numpy>=2.0"]
    assert "torch on the CPU" in said
    assert "jax on" not in said  # nobody asked for it


def test_a_gpu_that_is_not_there_is_missing(capsys, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(check, "describe_gpu", lambda: None)
    assert check.main(["--device=gpu", "--framework=torch"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "nvidia-smi lists none" in said
    assert "device=gpu: torch.cuda.is_available() is False" in said


@pytest.mark.parametrize(
    ("requirement", "missing"),
    [
        ("numpy>=1", ""),
        ("numpy>=99", "another version is needed"),
        ("no-such-package>=1", "not installed"),
    ],
)
def test_a_package(requirement, missing):
    found = check._package(Requirement(requirement), is_needed=True)
    assert found.missing == missing
    assert (found.found == "") == ("not installed" in missing)


def test_what_only_the_tests_need_may_be_missing(capsys, monkeypatch, tmp_path):
    for name, line in {
        "core": "numpy",
        "harness": "",
        "torch": "",
        "dev": "no-such-package",
    }.items():
        (tmp_path / f"{name}.txt").write_text(f"# a comment\n-r other.txt\n{line}\n")
    monkeypatch.setattr(check, "_REQUIREMENTS", tmp_path)
    monkeypatch.setattr(check, "_SELECT", "print('here')")  # loading one takes long
    assert check.main(["--device=cpu", "--framework=torch"]) == 0
    assert "only the tests need it" in " ".join(capsys.readouterr().out.split())
    (tmp_path / "core.txt").write_text("no-such-package\n")
    assert check.main(["--device=cpu", "--framework=torch"]) == 1


def test_a_framework_that_cannot_be_imported(capsys, monkeypatch):
    monkeypatch.setattr(check, "_SELECT", "import no_such_{framework}")
    assert check.main(["--device=cpu", "--framework=jax"]) == 1
    assert "No module named 'no_such_jax'" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("flag", ["--device=tpu", "--speed=1", "stray"])
def test_unusable_flags(flag, capsys):
    assert check.main([flag]) == 2
    assert capsys.readouterr().err.startswith("harness.check: ")


def test_away_from_a_checkout(capsys, monkeypatch):
    monkeypatch.setattr(check, "_REQUIREMENTS", Path("nowhere"))
    assert check.main([]) == 2
    assert "expected a checkout" in capsys.readouterr().err


def test_the_gpu_in_words(monkeypatch, tmp_path):
    answer = "NVIDIA H100 80GB HBM3, 4 MiB, 81559 MiB, 580.1\\nNVIDIA H100 80GB HBM3, 0 MiB"
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{answer}\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert describe_gpu() == "NVIDIA H100 80GB HBM3, 4 MiB of 81559 MiB in use, driver 580.1"
