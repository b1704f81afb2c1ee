"""`--resume` with other flags than those of the run says which differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import run
from harness.run import main

FLAGS = ("--preset=smoke", "--device=cpu", "--framework=torch", "--repeats=5")
REPEAT = "; repeat the flags of the run to go on with"


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        (("--repeats=3",), "one with repeats=5 (not 3)"),
        (("--warmup=2", "--timeout_s=60"), "one with warmup=1 (not 2), timeout_s=600.0 (not 60.0)"),
        (("--memory_limit_gib=2",), "one with memory_limit_gib=None (not 2.0)"),
        (("--vocab_sizes=4096",), "one with 6 cases (not 3)"),
        (("--vocab_sizes=4096,8192,9000",), "one with 6 cases (not 9)"),
        (("--vocab_sizes=8192", "--trace"), "one with trace=False (not True), 6 cases (not 3)"),
        (("--hidden_dim=32",), "none"),
        (("--vocab_sizes=9000",), "none"),
        (("--framework=jax",), "none"),
    ],
    ids=str,
)
def test_what_differs_from_the_newest_run(
    flags: tuple[str, ...],
    found: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "run_sweep", lambda cases, store, console: 0)
    where = f"--output_dir={tmp_path}"
    assert main([*FLAGS, where]) == 0
    assert main([*FLAGS, *flags, where, "--resume"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.endswith(f"under {tmp_path}, found {found}{REPEAT}")


def test_no_run_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FLAGS, f"--output_dir={tmp_path}", "--resume"]) == 2
    assert f"found none{REPEAT}" in capsys.readouterr().err
