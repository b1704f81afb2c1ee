"""`python -m harness.conformance` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.conformance import __main__ as command
from harness.conformance import matrix
from harness.conformance.__main__ import main
from harness.conformance.cases import CASES
from harness.conformance.checks import RIGHT, UNAVAILABLE, Verdict
from tests.harness.conformance.run_few import FEW
from tests.tables import slow

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--framework=tensorflow", ("framework", "jax", "torch", "all")),
        ("--variants=chunked,quick", ("--variants", "standard", "tokamax", "chunked,quick")),
        ("--variants=", ("--variants", "standard")),
        ("--output_dir=/proc/nowhere", ("/proc",)),
        ("--device=tpu", ("device", "auto", "cpu", "gpu")),
        ("--cases=all", ("cases",)),
        ("chunked", ("chunked", "--name=value")),
    ],
)
def test_unusable_flags(capsys, flag, words):
    assert main([flag]) == 2
    error = capsys.readouterr().err
    assert error.startswith("harness.conformance: ")
    assert error.count("\n") == 1
    for word in words:
        assert word in error


def test_variant_that_the_framework_does_not_have(capsys):
    assert main(["--framework=jax", "--variants=liger"]) == 2
    assert "--variants: expected one that jax has, got liger" in capsys.readouterr().err


def make_records(framework, variant, status, detail="", gpu=None):
    environment = {"versions": {"python": "3.12.0"}, "gpu": gpu}
    verdict = {"status": status, "detail": detail, "errors": {}, "environment": environment}
    fields = {"case_id": f"{framework} {variant}", "framework": framework, "variant": variant}
    return [{**fields, "case": case, **verdict} for case in CASES]


def test_what_is_not_here_is_printed(tmp_path, monkeypatch, capsys):
    """Each with its reason, once; a framework of which nothing is here has no table."""
    records = [
        *make_records("torch", "chunked", "right"),
        *make_records("torch", "liger", "unavailable", "liger needs [what] is not installed"),
        *make_records("jax", "tokamax", "unavailable", "tokamax needs Python 3.12"),
    ]
    monkeypatch.setattr(
        command, "_run", lambda _, store, console: [store.append(record) for record in records]
    )
    assert main([f"--output_dir={tmp_path}"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("- torch liger: liger needs [what] is not installed\n") == 1
    assert printed.count("- jax tokamax: tokamax needs Python 3.12\n") == 1
    titles = [line.strip() for line in printed.splitlines() if line.strip() in ("torch", "jax")]
    assert titles == ["torch"]
    (path,) = tmp_path.glob("*/matrix.md")
    assert "## torch" in path.read_text()
    assert "## jax" not in path.read_text()
    assert "- jax tokamax: tokamax needs Python 3.12" in path.read_text()


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """The implementations that a command line asks for, instead of a run."""

    def run(*flags):
        found = []

        def record(implementations, store, console):
            found.extend(implementations)
            for each in make_records("torch", "chunked", "right"):
                store.append(each)

        monkeypatch.setattr(command, "_run", record)
        assert main([*flags, f"--output_dir={tmp_path}"]) == 0
        return found

    return run


@pytest.mark.parametrize("has_gpu", [False, True])
def test_device(asked, monkeypatch, has_gpu):
    """As harness.run has it: decided once, for all workers."""
    monkeypatch.setattr("harness.flags.has_nvidia_gpu", lambda: has_gpu)
    assert {each.device for each in asked()} == {"gpu" if has_gpu else "cpu"}
    for device in ("cpu", "gpu"):
        assert {each.device for each in asked(f"--device={device}")} == {device}


@pytest.mark.parametrize(("device", "expected"), [("cpu", "1"), ("gpu", None)])
def test_what_a_peer_needs_on_a_cpu_it_gets_there_alone(asked, device, expected):
    (liger,) = asked(f"--device={device}", "--framework=torch", "--variants=liger")
    assert dict(liger.environment).get("TRITON_INTERPRET") == expected


@pytest.mark.parametrize(("gpu", "where"), [("NVIDIA H100", "NVIDIA H100"), (None, "a CPU")])
def test_matrix_says_where_it_was_judged(gpu, where):
    text = matrix.markdown(make_records("torch", "chunked", "right", gpu=gpu))
    assert text.startswith(f"On {where}, python 3.12.0\n")


def test_records_say_which_gpu(tmp_path, monkeypatch):
    described = "NVIDIA H100 80GB HBM3, 4 MiB of 81559 MiB in use, driver 580.1"
    monkeypatch.setattr(command, "describe_gpu", lambda: described)
    monkeypatch.setattr(command, "CASES", {})
    monkeypatch.setattr(command, "write_answers", lambda names, directory: [])
    monkeypatch.setattr(
        command, "run_implementation", lambda *_: [(name, Verdict("right")) for name in CASES]
    )
    for device, gpu in (("gpu", "NVIDIA H100 80GB HBM3"), ("cpu", None)):
        directory = tmp_path / device
        flags = ["--framework=jax", "--variants=chunked", f"--device={device}"]
        assert main([*flags, f"--output_dir={directory}"]) == 0
        (path,) = directory.glob("*/records.jsonl")
        records = [json.loads(line) for line in path.read_text().splitlines()]
        assert {(each["device"], each["environment"]["gpu"]) for each in records} == {(device, gpu)}


@pytest.mark.parametrize(
    ("module", "cases", "variants"),
    [
        pytest.param(
            "tests.harness.conformance.run_few", FEW, ["standard", "chunked"], id="few cases"
        ),
        pytest.param(
            "harness.conformance", CASES, ["standard", "chunked", "cut_cross_entropy"],
            id="all cases", marks=slow,
        ),
    ],
)  # fmt: skip
def test_matrix(tmp_path, module, cases, variants):
    """Ours and others: printed, written, and with a record for every cell."""
    flags = [
        *("--framework=torch", f"--variants={','.join(variants)}"),
        *("--device=cpu", f"--output_dir={tmp_path}"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", module, *flags],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "160"},
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (directory,) = tmp_path.iterdir()
    records = [json.loads(line) for line in (directory / "records.jsonl").read_text().splitlines()]
    assert [(record["variant"], record["case"]) for record in records] == [
        (variant, case) for variant in variants for case in cases
    ]
    assert {record["status"] for record in records if record["variant"] == "chunked"} == {"right"}

    text = (directory / "matrix.md").read_text()
    assert f"python -m harness.conformance {' '.join(flags)}" in text
    for case in cases:
        assert f"\n| {case} |" in text
        assert case in done.stdout
    assert f"{len(cases)} of {len(cases)}" in done.stdout
    assert "at most twice that of a full-logits loss" in " ".join(done.stdout.split())


def test_a_run_that_was_interrupted_goes_on(monkeypatch, tmp_path, capsys):
    """With the cases that have no verdict yet, and the answers of those alone."""
    asked, solved = [], []

    def judge(implementation, names, directory):
        for name in names:
            if len(asked) == 3:
                asked.append("stop")
                raise KeyboardInterrupt
            asked.append(name)
            yield name, Verdict(RIGHT, "")

    monkeypatch.setattr(command, "run_implementation", judge)
    monkeypatch.setattr(command, "write_answers", lambda names, _: solved.append(names) or names)
    flags = ["--device=cpu", "--framework=torch", "--variants=chunked", f"--output_dir={tmp_path}"]
    assert main(flags) == 130
    assert main([*flags, "--resume"]) == 0
    (directory,) = tmp_path.iterdir()
    lines = (directory / "records.jsonl").read_text().splitlines()
    names = [json.loads(line)["case"] for line in lines]
    assert names == list(CASES)
    assert [name for name in asked if name != "stop"] == list(CASES)
    assert [list(names) for names in solved] == [list(CASES), list(CASES)[3:]]
    assert main(["--device=cpu", "--framework=jax", f"--output_dir={tmp_path}", "--resume"]) == 2
    assert "--resume: expected a run of the same cases" in capsys.readouterr().err


@pytest.mark.parametrize(("device", "status"), [("cpu", 0), ("gpu", 1)])
def test_ours_that_does_not_see_the_gpu_is_a_failure(monkeypatch, tmp_path, device, status):
    """A framework that is not installed is none, on a CPU."""
    judge = lambda _, names, __: ((name, Verdict(UNAVAILABLE, "none")) for name in names)  # noqa: E731
    monkeypatch.setattr(command, "run_implementation", judge)
    monkeypatch.setattr(command, "write_answers", lambda names, _: names)
    flags = [f"--device={device}", "--variants=chunked", f"--output_dir={tmp_path}"]
    assert main(flags) == status
