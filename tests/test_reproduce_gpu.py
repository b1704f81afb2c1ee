"""The script that measures on a GPU: its parts, what is left of one, and what it refuses.

A stand-in takes the place of Python: it writes down how it was called, and does what it is told
to. `results/reproduce_gpu.sh --rehearse`, which CI runs, has the commands themselves.
"""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "results" / "reproduce_gpu.sh"
MORE_TO_DO = 75

STAND_IN = """#!/usr/bin/env bash
echo "$*" >>{calls}
case "$*" in *--resume*) ;; *)
  for argument; do case $argument in --output_dir=*)
    mkdir -p "${{argument#*=}}/20260101-000000"
    echo '{{}}' >"${{argument#*=}}/20260101-000000/run.json"
  esac; done
esac
case "$*" in {answers} esac
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Calls the script; `answers`: what the stand-in does for commands that have these words."""

    def call(*arguments: str, answers: dict[str, str] | None = None, path: str = ""):
        told = "".join(f"*{words}*) {what} ;; " for words, what in (answers or {}).items())
        stand_in = tmp_path / "python"
        stand_in.write_text(
            STAND_IN.format(calls=shlex.quote(str(tmp_path / "calls")), answers=told)
        )
        stand_in.chmod(0o755)
        return subprocess.run(
            [SCRIPT, f"--output_dir={tmp_path / 'out'}", *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHON": str(stand_in), "PATH": f"{path}{os.environ['PATH']}"},
            timeout=60,
        )

    return call


def calls(tmp_path: Path) -> Sequence[str]:
    path = tmp_path / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line.startswith("-m ")]


def modules(tmp_path: Path) -> list[str]:
    return [line.split()[1] for line in calls(tmp_path)]


def test_every_part_ends_in_a_folder_and_is_not_done_again(run, tmp_path):
    done = run("--rehearse")
    assert done.returncode == 0, done.stderr
    first = calls(tmp_path)
    names = run("--list", "--rehearse").stdout.split()[::2]
    for name in names:
        assert (tmp_path / "out" / name).is_dir(), name
    assert set(run("--list", "--rehearse").stdout.split()[1::2]) == {"ended"}
    assert not list((tmp_path / "out" / "unfinished").iterdir())

    again = run("--rehearse")
    assert again.returncode == 0, again.stderr
    report = calls(tmp_path)[len(first) :]
    assert len(report) == 1
    assert report[0].startswith("-m harness.report")


def test_a_rehearsal_leaves_the_gpu_alone_and_nothing_else_does(run, tmp_path):
    run("--rehearse")
    measured = [line for line in calls(tmp_path) if "harness.report" not in line]
    assert all("--device=cpu" in line for line in measured)
    rehearsed = len(calls(tmp_path))
    for name in ("gemma2_2b", "tune_jax", "whole_device"):
        shutil.rmtree(tmp_path / "out" / name)
    run("gemma2_2b", "tune_jax", "whole_device")
    measured = calls(tmp_path)[rehearsed:]
    assert len(measured) == 3
    assert all("--device=gpu" in line and "--vocab_size" not in line for line in measured)


def test_every_command_is_one_that_its_module_takes(run, tmp_path, monkeypatch, capsys):
    """On a GPU: a budget that no plan keeps, or a flag that is gone, would cost a slot."""
    run()
    for line in calls(tmp_path):
        _, name, *arguments = line.split()
        if name == "pytest":
            assert (ROOT / arguments[0]).is_dir()
        elif name in ("harness.run", "harness.tune"):
            module = importlib.import_module(name)
            monkeypatch.setattr(module, "show_dry_run", lambda *_: 0)
            assert module.main([*arguments, "--dry_run"]) == 0, capsys.readouterr().err
    names = [line.split()[1] for line in calls(tmp_path)]
    assert {"pytest", "harness.check", "harness.conformance", "harness.report"} <= set(names)


def test_only_the_parts_that_are_asked_for(run, tmp_path):
    assert run("seed_float32", "anatomy", "--rehearse").returncode == 0
    assert [line.split("--preset=")[1].split()[0] for line in calls(tmp_path)] == [
        "seed",
        "gemma2_2b",
    ]


@pytest.mark.parametrize(
    ("status", "others"),
    [(124, ["llama3_8b"]), (130, []), (137, [])],
    ids=["its time was up", "interrupted", "killed"],
)
@pytest.mark.parametrize("part", ["gemma2_2b", "conformance"])
def test_a_part_that_was_stopped_goes_on_where_it_was(run, tmp_path, part, status, others):
    """If its time was up the others have their turn; if somebody stopped it they have not."""
    word = {"gemma2_2b": "gemma2_2b", "conformance": "harness.conformance"}[part]
    parts = "llama3_8b", part
    stopped = run(*parts, "--rehearse", answers={word: f"exit {status}"})
    assert stopped.returncode == MORE_TO_DO
    first = calls(tmp_path)
    done = run(*parts, "--rehearse")
    assert done.returncode == 0, done.stderr
    again = [line for line in calls(tmp_path)[len(first) :] if word in line]
    assert "--resume" in again[0]
    folder = tmp_path / "out" / part
    assert (folder / "status.txt").read_text() == "0\n"
    assert not list(folder.glob("2*"))
    if part == "gemma2_2b":
        assert [name for name in ("llama3_8b",) if name in " ".join(first)] == others


def test_tests_that_have_passed_are_not_run_again(run, tmp_path):
    run("tests_torch", answers={"tests/torch_impl": "exit 124"})
    assert run("tests_torch").returncode == 0
    named = [line.split("--done=")[1].split()[0] for line in calls(tmp_path)]
    assert len(named) == 2
    assert named[0] == named[1]


@pytest.mark.parametrize(("status", "ended"), [(0, True), (1, True), (5, True), (4, False)])
def test_how_a_suite_ends(run, tmp_path, status, ended):
    """5: all had passed before; 4: a device that is not there, which the next call may see."""
    run("tests_gpu", answers={"tests/gpu": f"exit {status}"})
    assert (tmp_path / "out" / "tests_gpu").is_dir() == ended


def test_without_pytest_the_tests_are_not_over(run, tmp_path):
    done = run("tests_gpu", "anatomy", answers={"hypothesis": "exit 1"})
    assert done.returncode == 1
    assert "the tests need requirements/dev.txt" in done.stderr
    assert not (tmp_path / "out" / "tests_gpu").exists()
    assert (tmp_path / "out" / "anatomy").is_dir()


def test_a_part_that_fails_is_kept_and_the_others_go_on(run, tmp_path):
    done = run("gemma2_2b", "anatomy", "--rehearse", answers={"gemma2_2b*variants": "exit 1"})
    assert done.returncode == 1
    assert "gemma2_2b ended with status 1" in done.stderr
    assert (tmp_path / "out" / "gemma2_2b" / "run.json").exists()
    assert (tmp_path / "out" / "anatomy").is_dir()
    lines = map(str.split, run("--list").stdout.splitlines())
    states = {line[0]: line[1] for line in lines if len(line) == 2}
    assert states == {"gemma2_2b": "failed", "anatomy": "ended"}
    assert run("gemma2_2b", "anatomy", "--rehearse").returncode == 1  # it stays so


def test_flags_that_a_command_refuses_leave_no_part(run, tmp_path):
    """The next call tries again."""
    refuse = f"rm -r {tmp_path / 'out' / 'unfinished'}; exit 2"
    done = run("gemma2_2b", "--rehearse", answers={"gemma2_2b": refuse})
    assert done.returncode == 1
    assert not (tmp_path / "out" / "gemma2_2b").exists()
    assert run("gemma2_2b", "--rehearse").returncode == 0


def test_without_what_it_needs_nothing_is_measured(run, tmp_path):
    done = run("--rehearse", answers={"harness.check": "exit 1"})
    assert done.returncode == 1
    assert modules(tmp_path) == ["harness.check"]
    assert run("check", "--rehearse").returncode == 0  # it is looked for again


def test_no_part_gets_more_time_than_is_left(run, tmp_path):
    """`timeout` is the first on the path: it says what it was given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "timeout").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/limits\n')
    (folder / "timeout").chmod(0o755)
    for minutes, at_most in ((1, 60), (60, 540)):
        run("gemma2_2b", "--rehearse", f"--minutes={minutes}", path=f"{folder}:")
        words = (tmp_path / "limits").read_text().splitlines()[-1].split()
        limit = next(int(word) for word in words if word.isdigit())
        assert at_most - 10 <= limit <= at_most


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--minutes=0",), "--minutes: expected an integer > 0, got 0"),
        (("--minutes=",), "--minutes: expected an integer > 0, got"),
        (("--fast",), "--fast: no such flag"),
        (("gemma",), "expected parts among check tests_gpu"),
    ],
)
def test_unusable_arguments(run, tmp_path, arguments, named):
    done = run("--rehearse", *arguments)
    assert done.returncode == 2
    assert named in done.stderr
    assert not calls(tmp_path)


def test_without_a_gpu_it_says_so():
    if shutil.which("nvidia-smi"):
        pytest.skip("there is one")
    done = subprocess.run([SCRIPT, "check"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "nvidia-smi lists no GPU; --rehearse does without" in done.stderr


def test_help_is_what_stands_above():
    said = subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("Measures on one NVIDIA GPU")
    assert "Exit status" in said
