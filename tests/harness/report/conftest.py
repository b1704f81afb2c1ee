"""Synthetic records: plausible figures, the same ones for the same arguments."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from harness import record as record_module
from harness.breaking_point import search
from harness.cases import ANATOMY, BREAKING_POINT, Case, Measurement, Shape, make_case
from harness.memory import anatomy
from tests.harness.blank_pictures import draw_nothing

MIB = 1024**2
TOLERANCE = {"loss_error": 1e-5, "grad_hidden_error": 1e-5, "grad_weight_error": 1e-5}

Record = dict[str, Any]


def _record(
    framework: str = "torch",
    variant: str = "standard",
    vocab_size: int = 8192,
    *,
    status: str = "ok",
    seq_len: int = 2048,
    hidden_dim: int = 512,
    options: dict[str, Any] | None = None,
    **changes: Any,
) -> Record:
    """One record of the contract; `changes` replace its top-level fields."""
    draw = random.Random(f"{framework} {variant} {vocab_size}")
    weight_bytes = 4 * vocab_size * hidden_dim
    gradients = weight_bytes + 4 * seq_len * hidden_dim
    inputs = gradients + 8 * seq_len
    copies = 2.8 if framework == "torch" else 2.0
    workspace = {"standard": int(copies * 4 * seq_len * vocab_size)}.get(variant, 10 * MIB)
    slow = {"standard": 1.25, "floor": 1.0}.get(variant, 1.4)
    step = slow * 6 * seq_len * vocab_size * hidden_dim / 95e9
    if variant == "stream":
        step = 2 * weight_bytes / 8e9
    record: Record = {
        "schema_version": 1,
        "run_id": "run",
        "case_id": None,
        "started_at": "2026-01-01T00:00:00Z",
        "status": status,
        "framework": framework,
        "variant": variant,
        "device": "cpu",
        "dtype": "float32",
        "batch_size": 1,
        "seq_len": seq_len,
        "hidden_dim": hidden_dim,
        "vocab_size": vocab_size,
        "options": {"vocab_chunk": None, "ignored_fraction": 0.0, "memory_limit_gib": None}
        | (options or {}),
        "timing": None,
        "memory": None,
        "numerics": None,
        "error": None,
        "environment": _environment(framework),
    }
    if status == "oom":
        record["error"] = {"type": "OutOfMemoryError", "message": "tried 512 MiB\nsecond line"}
    if status == "ok":
        record["timing"] = {
            "compile_s": 1.2 if framework == "jax" else None,
            "first_step_s": 1.3 * step,
            "forward_s": [step / 3 * draw.uniform(0.97, 1.06) for _ in range(5)],
            "step_s": [step * draw.uniform(0.97, 1.06) for _ in range(5)],
        }
    if status == "ok" and variant not in ("floor", "stream"):
        record["memory"] = {
            "inputs_bytes": inputs,
            "gradients_bytes": gradients,
            "peak_bytes": inputs + gradients + workspace,
            "additional_bytes": gradients + workspace,
            "workspace_bytes": workspace,
            "reserved_bytes": None,
            "host_rss_bytes": gradients + workspace + MIB,
            "probe": {"jax": "xla buffer assignment"}.get(framework, "torch allocator events"),
            "xla": None,
        }
        record["numerics"] = {
            "loss": 9.1,
            "loss_error": 1.2e-7,
            "grad_hidden_error": 3e-7,
            "grad_weight_error": 4e-7,
            "tolerance": TOLERANCE,
        }
    return record | changes


def _environment(framework: str) -> dict[str, Any]:
    return {
        "versions": {"python": "3.11.2", framework: "1.0"},
        "cpu": {"model": "Example CPU", "cores": 4},
        "gpu": None,
        "threads": 2,
        "git_revision": "abc1234",
    }


def _sweep(
    vocab_sizes: Sequence[int] = (8192, 16384, 32768),
    *,
    variants: Sequence[str] = ("standard", "chunked", "floor"),
    frameworks: Sequence[str] = ("jax", "torch"),
    out_of_memory: Iterable[tuple[str, str, int]] = (),
    **changes: Any,
) -> list[Record]:
    failed = set(out_of_memory)
    return [
        _record(
            framework,
            variant,
            vocab_size,
            status="oom" if (framework, variant, vocab_size) in failed else "ok",
            **changes,
        )
        for vocab_size in vocab_sizes
        for framework in frameworks
        for variant in variants
    ]


def _anatomy(
    framework: str = "torch",
    variant: str = "standard",
    vocab_size: int = 8192,
    *,
    status: str = "ok",
    buffers: Sequence[anatomy.Buffer] | None = None,
    **changes: Any,
) -> Record:
    """The record of one step taken apart; its buffers add up to its peak, which is halfway."""
    record = _record(framework, variant, vocab_size, status=status, **changes)
    record |= {"mode": ANATOMY, "timing": None, "memory": None, "numerics": None, "anatomy": None}
    if status != "ok":
        return record
    parts = _buffers(record) if buffers is None else buffers
    inputs = sum(part.size_bytes for part in parts if part.kind == anatomy.INPUT)
    peak = sum(part.size_bytes for part in parts)
    found = anatomy.Anatomy(
        source={"jax": "xla buffer assignment"}.get(framework, "torch allocator events"),
        peak_bytes=peak,
        buffers=tuple(parts),
        timeline=((0.0, inputs), (0.1, (inputs + peak) // 2), (0.5, peak), (0.75, inputs)),
        step_s=1.0,
        backward_s=0.5 if variant == "standard" else None,
    )
    return record | {"anatomy": json.loads(json.dumps(found.to_json()))}


def _buffers(record: Record) -> list[anatomy.Buffer]:
    """What a step like this one holds: full logits several times, or one tile and gradients."""
    hidden = 4 * record["seq_len"] * record["hidden_dim"]
    weight = 4 * record["vocab_size"] * record["hidden_dim"]
    logits = 4 * record["seq_len"] * record["vocab_size"]
    inputs = [
        anatomy.Buffer(kind=anatomy.INPUT, name="hidden", size_bytes=hidden),
        anatomy.Buffer(kind=anatomy.INPUT, name="weight", size_bytes=weight),
    ]
    if record["variant"] == "standard":
        names = ("exp", "sub") if record["framework"] == "jax" else ("log_softmax", "nll", "back")
        held = [
            anatomy.Buffer(
                kind=anatomy.WORKSPACE, name=name, size_bytes=logits, asked_by="standard.py:15"
            )
            for name in names
        ]
    else:
        held = [
            anatomy.Buffer(kind=anatomy.GRADIENT, name="gradient of hidden", size_bytes=hidden),
            anatomy.Buffer(kind=anatomy.GRADIENT, name="gradient of weight", size_bytes=weight),
            anatomy.Buffer(
                kind=anatomy.WORKSPACE, name="tile", size_bytes=10 * MIB, asked_by="tile.py:7"
            ),
        ]
    if record["framework"] == "jax":
        held.append(anatomy.Buffer(kind=anatomy.UNUSED, name="idle", size_bytes=2 * MIB))
    return [*inputs, *held]


def _anatomies(
    vocab_size: int = 8192, *, frameworks: Sequence[str] = ("torch", "jax"), **changes: Any
) -> list[Record]:
    return [
        _anatomy(framework, variant, vocab_size, **changes)
        for framework in frameworks
        for variant in ("standard", "chunked")
    ]


def _search(
    framework: str = "torch",
    variant: str = "standard",
    *,
    fits: int = 30_000,
    start: int = 8192,
    axis: str = "vocab_size",
    cut_short: tuple[int, str] | None = None,
    memory_limit_gib: float | None = 2.0,
) -> list[Record]:
    """All that a search leaves: its probes, and last the record of where it ended.

    Sizes up to `fits` run. `cut_short`: what ends it at that size or above, as a status.
    """

    def measure(probe: Case) -> Record:
        size = probe.shape.vocab_size if axis == "vocab_size" else probe.shape.num_tokens
        status = "ok" if size <= fits else "oom"
        if cut_short is not None and size >= cut_short[0]:
            status = cut_short[1]
        record = record_module.new_record(probe, "run")
        error = {
            "ok": None,
            "oom": {
                "type": "OutOfMemoryError",
                "message": f"no room at {size}",
                "allocation": f"{size} bytes, as much as [N, V]; the backward pass",
            },
        }.get(status, {"type": "WorkerDied", "message": f"stopped at {size}\nsecond line"})
        return record | {
            "status": status,
            "device": "cpu",
            "error": error,
            "environment": _environment(framework),
        }

    case = make_case(
        framework,
        variant,
        Shape(
            batch_size=2,
            seq_len=start // 2 if axis == "num_tokens" else 1024,
            hidden_dim=512,
            vocab_size=start if axis == "vocab_size" else 32768,
            dtype="float32",
            ignored_fraction=0.0,
            seed=0,
        ),
        Measurement(
            warmup=1, repeats=5, timeout_s=600, device="cpu", memory_limit_gib=memory_limit_gib
        ),
        {},
        mode=BREAKING_POINT,
        axis=axis,
    )
    return list(search(case, {}, measure, "run"))


def _searches(**changes: Any) -> list[Record]:
    """Of both frameworks; chunked gets eight times as far as standard."""
    fits = {"standard": 30_000, "chunked": 240_000}
    return [
        record
        for framework in ("torch", "jax")
        for variant in fits
        for record in _search(framework, variant, **{"fits": fits[variant], **changes})
    ]


@pytest.fixture
def drawn() -> None:
    """For a test whose pictures are to be drawn."""


@pytest.fixture(autouse=True)
def _blank_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "drawn" not in request.fixturenames:
        draw_nothing(monkeypatch)


@pytest.fixture
def make_record() -> Callable[..., Record]:
    return _record


@pytest.fixture
def sweep() -> Callable[..., list[Record]]:
    return _sweep


@pytest.fixture
def make_anatomy() -> Callable[..., Record]:
    return _anatomy


@pytest.fixture
def anatomies() -> Callable[..., list[Record]]:
    return _anatomies


@pytest.fixture
def make_search() -> Callable[..., list[Record]]:
    return _search


@pytest.fixture
def searches() -> Callable[..., list[Record]]:
    return _searches
