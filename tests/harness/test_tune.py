"""The tuning command: flags, the grid that it would measure, and a small one measured."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.cases import Shape
from harness.grid import default_budgets, grid
from harness.plans import plan_of
from harness.tune import main
from tests.harness.conftest import ROOT
from tests.tables import slow

SHAPE = Shape(
    batch_size=4,
    seq_len=512,
    hidden_dim=512,
    vocab_size=32768,
    dtype="float32",
    ignored_fraction=0.0,
    seed=0,
)
FRAMEWORKS = ("torch", "jax")


def points(framework, shape=SHAPE, **chosen):
    given = {"strategies": ["two_pass", "one_pass"], "token_chunks": None, "vocab_chunks": None}
    return grid(framework, "cpu", shape, **given | chosen)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_grid_has_both_strategies_and_each_tiling_once(framework):
    kept, absurd = points(framework)
    assert {point.strategy for point in kept} == {"two_pass", "one_pass"}
    assert len({point[:3] for point in kept}) == len(kept)
    assert all(point.workspace_bytes <= SHAPE.logits_bytes for point in kept)
    assert all(point.workspace_bytes > SHAPE.logits_bytes for point in absurd)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_grid_of_sizes_that_were_asked_for(framework):
    kept, absurd = points(framework, token_chunks=(64, 10**6), vocab_chunks=(1024,))
    assert {point.token_chunk for point in (*kept, *absurd)} == {64, SHAPE.num_tokens}
    assert absurd, "one_pass over all tokens holds the full logits"
    assert all(point.workspace_bytes <= SHAPE.logits_bytes for point in kept)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_budgets_are_shares_of_the_logits_that_some_plan_keeps(framework):
    budgets = default_budgets(framework, "cpu", SHAPE)
    assert budgets == [64 * 2**20, 16 * 2**20, 4 * 2**20]
    for budget in budgets:
        plan = plan_of(framework, "cpu", SHAPE, {"memory_budget": budget})
        assert plan.workspace_bytes <= budget


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--vocab_size=0", ("--vocab_size", "> 0", "0")),
        ("--strategies=three_pass", ("--strategies", "two_pass", "three_pass")),
        ("--token_chunks=64,few", ("--token_chunks", "few")),
        ("--vocab_chunks=", ("--vocab_chunks",)),
        ("--memory_budgets_mib=-1", ("--memory_budgets_mib", "> 0", "-1")),
        ("--memory_budgets_mib=0.001", ("--memory_budgets_mib", "expected at least")),
        ("--vocab_sizes=1,2", ("vocab_sizes",)),
    ],
)
def test_unusable_flag(flag, words, tmp_path, capsys):
    output_dir = tmp_path / "results"
    assert main(["--preset=cpu", f"--output_dir={output_dir}", flag]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert all(word in line for word in words), line
    assert not output_dir.exists()


def test_dry_run_lists_yardsticks_at_both_ends(capsys):
    assert main(["--dry_run", "--preset=cpu", "--framework=jax"]) == 0
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    cases = [" ".join(words[1:]) for words in said if words[:1] == ["jax"]]
    assert [case.split()[0] for case in cases[:3]] == ["floor", "stream", "standard"]
    assert [" ".join(case.split()[:2]) for case in cases[-3:]] == [
        "floor again", "stream again", "standard again"
    ]  # fmt: skip
    assert any(case.startswith("one_pass token_chunk=512") for case in cases)
    assert any(case.startswith("chunked memory_budget=16777216") for case in cases)


SMALL = (
    "--preset=smoke", "--vocab_size=2048", "--repeats=2", "--warmup=0", "--token_chunks=64",
    "--vocab_chunks=512", "--memory_budgets_mib=4",
)  # fmt: skip


@pytest.mark.parametrize("frameworks", [["torch"], pytest.param(["torch", "jax"], marks=slow)])
def test_a_small_shape_is_measured_and_drawn(run_here, frameworks):
    framework = frameworks[0] if len(frameworks) == 1 else "all"
    done = run_here(*SMALL, f"--framework={framework}", main=main)
    assert done.status == 0, done.stdout + done.stderr
    planned = [record for record in done.records if record["plan"]]
    assert {record["plan"]["strategy"] for record in planned} == {"two_pass", "one_pass"}
    for record in planned:
        assert record["status"] == "ok"
        assert record["memory"]["workspace_bytes"] <= record["plan"]["workspace_bytes"]
        if (budget := record["options"]["memory_budget"]) is not None:
            assert record["memory"]["workspace_bytes"] <= budget
    written = {path.name for path in done.directory.iterdir()}
    assert written >= {"tune.md", *(f"frontier_{name}.png" for name in frameworks)}
    assert "the frontier" in done.stdout
    tables = (done.directory / "tune.md").read_text().split("### The frontier")[1:]
    assert len(tables) == len(frameworks)
    assert all("| matmuls % | rest B/logit |" in table for table in tables)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--dry_run"], "10 cases", id="dry run"),
        pytest.param([], "the frontier", id="measured", marks=slow),  # a worker for each case
    ],
)
def test_as_a_process(tmp_path, flags, words):
    done = subprocess.run(
        [sys.executable, "-m", "harness.tune", *SMALL, "--framework=torch", "--device=cpu",
         *flags, f"--output_dir={tmp_path}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "120"},
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert words in done.stdout
    written = {path.name for path in tmp_path.glob("*/*")}
    assert ("frontier_torch.png" in written) == (not flags)
