"""Unusable flags: one line that names the flag and what would work, before any case."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.presets import PRESETS
from harness.run import main
from harness.variants import EVERY_VARIANT


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--preset=huge", ("preset", "smoke", "gpt2", "huge")),
        ("--framework=tensorflow", ("framework", "jax", "torch", "all")),
        ("--variants=standard,quick", ("--variants", "standard", "chunked", "quick")),
        ("--variants=", ("--variants", "standard")),
        ("--dtype=int8", ("dtype", "bfloat16", "float32")),
        ("--vocab_sizes=0", ("--vocab_sizes", "> 0", "0")),
        ("--vocab_sizes=100,many", ("--vocab_sizes", "many")),
        ("--vocab_sizes=", ("--vocab_sizes",)),
        ("--vocab_chunk=-5", ("--vocab_chunk", "> 0", "-5")),
        ("--token_chunk=0", ("--token_chunk", "> 0", "0")),
        ("--memory_budget_mib=0", ("--memory_budget_mib", "> 0")),
        ("--memory_budget_mib=0.001", ("--memory_budget_mib", "expected at least", "got 1049")),
        ("--batch_size=0", ("--batch_size", ">= 1", "0")),
        ("--seq_len=-1", ("--seq_len", ">= 1")),
        ("--hidden_dim=0", ("--hidden_dim", ">= 1")),
        ("--repeats=0", ("--repeats", ">= 1")),
        ("--warmup=-1", ("--warmup", ">= 0")),
        ("--ignored_fraction=1.5", ("--ignored_fraction", "0 to 1", "1.5")),
        ("--memory_limit_gib=0", ("--memory_limit_gib", "> 0")),
        ("--timeout_s=-3", ("--timeout_s", "> 0")),
        ("--timeout_s=inf", ("--timeout_s", "finite", "inf")),
        ("--memory_limit_gib=nan", ("--memory_limit_gib", "finite", "nan")),
        ("--seed=-1", ("--seed", ">= 0")),
        ("--device=tpu", ("device", "cpu", "gpu", "tpu")),
        ("--vocab_chunk=few", ("vocab_chunk", "few")),
        ("--mode=fast", ("mode", "sweep", "anatomy", "breaking_point")),
        ("--axis=num_tokens", ("--axis", "breaking_point", "num_tokens")),
        ("--axis=hidden_dim", ("axis", "vocab_size", "num_tokens")),
        ("--mode=anatomy --vocab_sizes=96,128", ("--vocab_sizes", "one size", "96,128")),
        ("--mode=anatomy --variants=floor", ("--variants", "floor")),
        ("--mode=breaking_point --trace", ("--trace", "breaking_point")),
        ("--no_such_flag=1", ("no_such_flag",)),
        ("smoke", ("smoke", "--name=value")),
    ],
)
def test_unusable_flag(
    flag: str, words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output_dir = tmp_path / "results"
    assert main([f"--output_dir={output_dir}", *flag.split()]) == 2
    said = capsys.readouterr()
    (line,) = said.err.strip().splitlines()
    assert all(word in line for word in words), line
    assert not output_dir.exists()


@pytest.mark.parametrize("parent", ["a_file", "read_only"])
def test_output_dir_that_cannot_be_written(
    parent: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_file").touch()
    (tmp_path / "read_only").mkdir(mode=0o500)
    if parent == "read_only" and os.access(tmp_path / "read_only", os.W_OK):
        pytest.skip("this user may write anywhere")
    assert main(["--preset=smoke", f"--output_dir={tmp_path / parent / 'results'}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "--output_dir" in line


def test_list_names_every_preset_and_variant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    said = capsys.readouterr().out
    names = [*PRESETS, *EVERY_VARIANT]
    assert all(name in said for name in names)
    assert "256,000" in said


def test_dry_run_lists_the_cases_and_runs_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output_dir = tmp_path / "results"
    flags = ["--dry_run", "--preset=cpu", "--framework=jax", f"--output_dir={output_dir}"]
    assert main(flags) == 0
    said = capsys.readouterr().out
    assert ["jax", "standard", "32,768"] in [line.split()[:3] for line in said.splitlines()]
    assert "9 cases" in said
    assert "torch" not in said
    assert not output_dir.exists()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--memory_limit_gib" in said
    assert "the scratch of the matmul libraries included" in said
