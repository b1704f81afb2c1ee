"""The table of what XLA assigns on an H100; what it compiles is tested in tests/jax_impl."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys

import pytest

from tests.harness.conftest import ROOT

command = importlib.import_module("harness.gpu_compiler.__main__")
IS_HERE = any(
    importlib.util.find_spec("jax_plugins") and importlib.util.find_spec(f"jax_plugins.{name}")
    for name in ("xla_cuda12", "xla_cuda13")
)


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", command.COMMAND, *flags], capture_output=True, text=True, cwd=ROOT
    )


@pytest.mark.skipif(not IS_HERE, reason="needs XLA's compiler for GPUs: .ci/gpu_compiler")
def test_table_and_records(tmp_path):
    done = run("--presets=gpt2", "--memory_budgets_mib=50", f"--output_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    (directory,) = tmp_path.iterdir()
    records = [json.loads(line) for line in (directory / "records.jsonl").read_text().splitlines()]
    assert [record["variant"] for record in records] == [
        "standard", "optax", "chunked", "chunked", "two_pass", "one_pass",
    ]  # fmt: skip
    sizes = [record["workspace_bytes"] for record in records]
    assert sizes[0] > 4 * 1024 * 50257  # the logits, in float32
    assert max(sizes[2:5]) < sizes[0] / 2
    assert sizes[3] <= 50 * 2**20
    text = (directory / "gpu_compiler.md").read_text()
    assert "1,024 x 768 x 50,257" in text
    assert "chunked within 50 MiB" in text
    assert "nothing ran" in done.stdout


@pytest.mark.skipif(IS_HERE, reason="XLA's compiler for GPUs is here")
def test_without_the_compiler_it_says_what_brings_it(tmp_path):
    done = run("--presets=gpt2", f"--output_dir={tmp_path}")
    assert done.returncode == 2
    assert ".ci/gpu_compiler installs it" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flag", "named"),
    [
        ("--presets=gpt3", "presets: expected a list of smoke, cpu"),
        ("--variants=floor", "variants: expected a list of standard, optax"),
        ("--memory_budgets_mib=none", "memory_budgets_mib: expected numbers > 0"),
        ("--memory_budgets_mib=1", "expected at least"),
        ("--dtype=int8", "dtype"),
        ("stray", "unexpected argument 'stray'"),
    ],
)
def test_unusable_flags(flag, named, capsys):
    assert command.main([flag]) == 2
    said = capsys.readouterr().err
    assert said.startswith("harness.gpu_compiler: ")
    assert named in said


def test_more_than_the_plan_says_is_a_failure():
    record = {"plan": {"workspace_bytes": 100}, "workspace_bytes": 111}
    assert command._over_plan(record) > command._ALLOWED
    assert command._over_plan({"plan": None, "workspace_bytes": 1}) is None
