"""`python -m harness.causal_lm`: the table of other people's models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.causal_lm import __main__ as command
from harness.causal_lm import compare
from harness.causal_lm.compare import Shape

SMALL = ("--batch_size=1", "--seq_len=64", "--vocab_size=1024")


def records(output_dir: Path) -> list[dict]:
    (directory,) = output_dir.iterdir()
    return [json.loads(line) for line in (directory / "records.jsonl").read_text().splitlines()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_table_and_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = "Gemma 2, Cohere"
    assert command.main([*SMALL, f"--models={models}", f"--output_dir={tmp_path}"]) == 0
    gemma, cohere = records(tmp_path)
    assert (gemma["model"], gemma["head"]) == ("Gemma 2", "tied, softcap 30")
    assert cohere["head"] == "tied, scale 0.0625"
    assert gemma["beyond_the_rule"] == []
    assert gemma["memory"]["standard"]["largest_bytes"] == Shape(1, 64, 1024).logits_bytes
    assert gemma["environment"]["versions"]["transformers"]
    printed = capsys.readouterr().out
    assert "Gemma 2" in printed
    (directory,) = tmp_path.iterdir()
    assert "| Gemma 2 | tied, softcap 30 |" in (directory / "causal_lm.md").read_text()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("factor", [1 + 1e-5, float("nan")])
def test_a_loss_that_is_off_is_told(
    factor: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(*arguments: torch.Tensor) -> torch.Tensor:
        return factor * compare.causal_lm_loss(*arguments)

    monkeypatch.setitem(compare.LOSSES, "chunked", off)
    assert command.main([*SMALL, "--models=Llama", f"--output_dir={tmp_path}"]) == 1
    assert "loss" in records(tmp_path)[0]["beyond_the_rule"]


@pytest.mark.parametrize("package", ["torch", "transformers"])
def test_without_a_package(
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        command.importlib.util, "find_spec", lambda name: None if name == package else name
    )
    assert command.main([f"--output_dir={tmp_path}"]) == 2
    assert f"pip install {package}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "kept"), [(RuntimeError("gone"), 1, 2), (KeyboardInterrupt(), 130, 1)]
)
def test_one_model_that_fails(
    error: BaseException,
    status: int,
    kept: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The others stay in the table; an interrupt ends it with what there is."""

    def fail(name: str, *_: object) -> dict[str, object]:
        if name != "Llama":
            raise error
        return comparison

    comparison = compare.compare("Llama", Shape(1, 8, 64))
    monkeypatch.setattr(compare, "compare", fail)
    flags = [*SMALL, "--models=Llama,Cohere", f"--output_dir={tmp_path}"]
    assert command.main(flags) == status
    assert len(records(tmp_path)) == kept
    printed = capsys.readouterr().out
    assert "Llama" in printed
    assert ("failed: gone" in printed) == (kept == 2)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--models=Lama", "--models: expected a list of Llama, tied Llama"),
        ("--seq_len=1", "--seq_len: expected a next token, so 2 or more, got 1"),
        ("--vocab_size=-3", "--vocab_size: expected a finite number > 0, got -3"),
    ],
)
def test_bad_flags(
    flag: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([flag, f"--output_dir={tmp_path}"]) == 2
    assert words in capsys.readouterr().err
