"""What each mode makes of a preset, which variants it measures, and what bounds a search."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from rich.console import Console

from harness import modes, run
from harness.cases import ANATOMY, BREAKING_POINT, SWEEP, Case
from harness.modes import default_limit_gib, shapes_of, variants_of
from harness.presets import Preset
from harness.run import main

PRESET = Preset(
    about="", batch_size=4, seq_len=512, hidden_dim=64, vocab_sizes=(2048, 8192, 4096), repeats=3
)


@pytest.mark.parametrize(
    ("mode", "axis", "tokens", "vocab_sizes"),
    [
        (SWEEP, "", (4, 512), (2048, 8192, 4096)),
        (ANATOMY, "", (4, 512), (8192,)),
        (BREAKING_POINT, "vocab_size", (4, 512), (2048,)),
        (BREAKING_POINT, "num_tokens", (1, 2048), (8192,)),
    ],
)
def test_shapes(
    mode: str, axis: str, tokens: tuple[int, int], vocab_sizes: tuple[int, ...]
) -> None:
    found = shapes_of(mode, axis, PRESET)
    assert ((found.batch_size, found.seq_len), found.vocab_sizes) == (tokens, vocab_sizes)
    assert (found.hidden_dim, found.dtype, found.repeats) == (64, "float32", 3)


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        (SWEEP, ["floor", "stream", "standard", "liger"]),
        (ANATOMY, ["standard", "liger"]),
        (BREAKING_POINT, ["standard", "liger"]),
    ],
)
def test_variants(mode: str, kept: list[str]) -> None:
    assert variants_of(mode, ["floor", "stream", "standard", "liger"]) == kept


@pytest.mark.parametrize(
    ("mode", "device", "memory_gib", "limit_gib"),
    [
        (SWEEP, "cpu", 16.0, None),
        (ANATOMY, "cpu", 16.0, None),
        (BREAKING_POINT, "gpu", 16.0, None),
        (BREAKING_POINT, "cpu", 16.0, 12.0),
        (BREAKING_POINT, "cpu", 15.62, 11.7),  # a tenth at most below three quarters
    ],
)
def test_default_limit(
    mode: str,
    device: str,
    memory_gib: float,
    limit_gib: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modes, "host_memory_bytes", lambda: int(memory_gib * 2**30))
    assert default_limit_gib(mode, device) == limit_gib


@pytest.mark.parametrize(
    ("flags", "ids"),
    [
        (
            ("--mode=anatomy",),
            ["torch-standard-float32-b2-s256-d64-v8192-seed0-anatomy",
             "torch-chunked-float32-b2-s256-d64-v8192-seed0-anatomy"],
        ),
        (
            ("--mode=breaking_point", "--memory_limit_gib=2", "--variants=standard"),
            ["torch-standard-float32-b2-s256-d64-v4096-seed0-limit2gib-breaking_point-vocab_size"],
        ),
        (
            ("--mode=breaking_point", "--axis=num_tokens", "--memory_limit_gib=2",
             "--variants=standard,floor,stream", "--vocab_sizes=512"),
            ["torch-standard-float32-b1-s512-d64-v512-seed0-limit2gib-breaking_point-num_tokens"],
        ),
    ],
    ids=["anatomy", "vocabulary", "tokens"],
)  # fmt: skip
def test_flags_make_the_cases_of_their_mode(
    flags: tuple[str, ...], ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def keep(console: Console, cases: Sequence[Case]) -> int:
        made.extend(case.case_id for case in cases)
        return 0

    monkeypatch.setattr(run, "show_dry_run", keep)
    shared = ("--dry_run", "--preset=smoke", "--framework=torch", "--device=cpu")
    assert main([*shared, *flags]) == 0
    assert made == ids


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--mode=fastest",), ("mode", "sweep", "anatomy", "breaking_point")),
        (("--axis=vocab_size",), ("--axis", "breaking_point")),
        (("--mode=anatomy", "--axis=num_tokens"), ("--axis", "breaking_point")),
        (("--mode=breaking_point", "--axis=hidden_dim"), ("axis", "vocab_size", "num_tokens")),
        (("--mode=breaking_point", "--trace"), ("--trace", "false")),
        (("--mode=anatomy", "--vocab_sizes=512,1024"), ("--vocab_sizes", "one size")),
        (
            ("--mode=anatomy", "--variants=floor"),
            (
                "--variants",
                "a variant that is a loss",
                "floor and stream have only a time",
                "got floor",
            ),
        ),
        (("--mode=anatomy", "--warmup=2"), ("--warmup", "none", "anatomy", "got 2")),
        (("--mode=anatomy", "--repeats=2"), ("--repeats", "none", "anatomy", "got 2")),
        (("--mode=breaking_point", "--warmup=0"), ("--warmup", "none", "breaking_point", "got 0")),
        (("--mode=breaking_point", "--repeats=2"), ("--repeats", "none", "breaking_point")),
        (
            ("--mode=anatomy", "--device=cpu", "--memory_limit_gib=1"),
            ("--memory_limit_gib", "none", "anatomy on a CPU", "got 1"),
        ),
    ],
    ids=" ".join,
)
def test_flags_that_a_mode_cannot_use(
    flags: tuple[str, ...], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dry_run", "--preset=smoke", *flags]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert all(word in line for word in words), line


@pytest.mark.parametrize("mode", ["sweep", "anatomy", "breaking_point"])
def test_limit_that_holds_in_a_mode(mode: str) -> None:
    """On a GPU it is on the whole process: in every mode."""
    flags = ["--dry_run", "--preset=smoke", f"--mode={mode}", "--memory_limit_gib=1"]
    assert main([*flags, "--device=gpu"]) == 0
