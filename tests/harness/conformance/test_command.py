"""`python -m harness.conformance` as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.conformance import __main__ as command
from harness.conformance.__main__ import main
from harness.conformance.cases import CASES

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--framework=tensorflow", ("framework", "jax", "torch", "all")),
        ("--variants=chunked,quick", ("--variants", "standard", "tokamax", "chunked,quick")),
        ("--variants=", ("--variants", "standard")),
        ("--output_dir=/proc/nowhere", ("/proc",)),
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


def test_parent_loads_no_framework():
    program = (
        "import sys, harness.conformance.__main__; "
        "sys.exit(bool({'jax', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def make_records(framework, variant, status, detail=""):
    verdict = {"status": status, "detail": detail, "errors": {}, "environment": {"versions": {}}}
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


def test_matrix(tmp_path):
    """Ours and two others: printed, written, and with a record for every cell."""
    variants = ["standard", "chunked", "cut_cross_entropy"]
    flags = ["--framework=torch", f"--variants={','.join(variants)}", f"--output_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "harness.conformance", *flags],
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
        (variant, case) for variant in variants for case in CASES
    ]
    assert {record["status"] for record in records if record["variant"] == "chunked"} == {"right"}

    text = (directory / "matrix.md").read_text()
    assert f"python -m harness.conformance {' '.join(flags)}" in text
    for case in CASES:
        assert f"\n| {case} |" in text
        assert case in done.stdout
    assert f"{len(CASES)} of {len(CASES)}" in done.stdout
    assert "at most twice that of a full-logits loss" in " ".join(done.stdout.split())
