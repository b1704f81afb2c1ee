"""The line of a finished case: its figures stand in columns, whatever it is called."""

from __future__ import annotations

from typing import Any

import pytest
from rich.text import Text

from harness.case_lines import line
from harness.cases import ANATOMY, BREAKING_POINT, SWEEP, Measurement, Shape, make_case
from harness.record import new_record

SHAPE = Shape(
    batch_size=2, seq_len=512, hidden_dim=64, vocab_size=8192,
    dtype="float32", ignored_fraction=0.0, seed=0,
)  # fmt: skip
MEASUREMENT = Measurement(warmup=1, repeats=3, timeout_s=60, device="cpu", memory_limit_gib=None)
NAME = "N=1,024 D=64 V=8,192 float32"


def said(
    variant: str, options: dict[str, int] | None = None, mode: str = SWEEP, **result: Any
) -> str:
    case = make_case("torch", variant, SHAPE, MEASUREMENT, options or {}, mode=mode)
    return Text.from_markup(line(case, new_record(case, "run") | result)).plain


def timing(step_s: float) -> dict[str, Any]:
    return {"step_s": [step_s] * 3}


def memory(mebibytes: float) -> dict[str, Any]:
    return {"workspace_bytes": mebibytes * 2**20}


def test_figures_stand_in_columns() -> None:
    oom = {"type": "MemoryError", "message": "no room"}
    lines = [
        said("floor", status="ok", timing=timing(0.01)),
        said("standard", status="oom", error=oom),
        said("one_pass", {"token_chunk": 64}, status="ok", timing=timing(71.5), memory=memory(9e3)),
        said("linear_cross_entropy_chunked", status="ok", timing=timing(1.0), memory=memory(2.25)),
    ]
    assert lines == [
        f"ok          torch  step      10.0 ms                          floor {NAME}",
        f"oom         torch                                             standard {NAME}"
        "  MemoryError: no room",
        "ok          torch  step  71,500.0 ms  workspace  9,000.0 MiB  "
        f"one_pass token_chunk=64 {NAME}",
        "ok          torch  step   1,000.0 ms  workspace      2.2 MiB  "
        f"linear_cross_entropy_chunked {NAME}",
    ]


@pytest.mark.parametrize("mode", [ANATOMY, BREAKING_POINT])
def test_no_room_for_figures_that_a_mode_has_not(mode: str) -> None:
    assert said("standard", mode=mode, status="ok") == f"ok          torch  standard {NAME}"
