"""The memory of a whole training step, in either framework."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flax import nnx

from examples import text, train_flax, train_torch
from examples.recipe import LOSSES, Recipe
from harness.json_lines import objects_in
from harness.memory.figures import Reading
from harness.train import child, step_memory
from harness.train.step_memory import MEASURES, StepMemory

PROBES = {"torch": "torch allocator events", "jax": "xla buffer assignment"}


@pytest.fixture(autouse=True)
def one_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second would leave this process with an allocator that keeps nothing."""
    monkeypatch.setattr(step_memory, "host_rss", lambda step: None)


def begun(framework: str, recipe: Recipe, loss: str, tokens: Any) -> tuple[Any, Any, Any]:
    """Model, optimizer and step of an example that has the state of its optimizer."""
    if framework == "jax":
        model = train_flax.Decoder(recipe, nnx.Rngs(0))
        return model, train_flax.make_optimizer(model, recipe), train_flax.make_train_step(loss)
    decoder = train_torch.Decoder(recipe)
    optimizer = torch.optim.AdamW(decoder.parameters())
    train_step = train_torch.make_train_step(loss)
    train_step(decoder, optimizer, tokens)  # which makes the moments
    return decoder, optimizer, train_step


@pytest.mark.parametrize("framework", MEASURES)
def test_the_standard_loss_holds_the_logits(framework: str) -> None:
    """At a shape at which they count, a chunked step needs far less."""
    recipe = Recipe(
        output_dir=Path("unused"), batch_size=8, length=64, vocab_size=16384, dim=32, layers=1
    )
    weights = 4 * 2 * 16384 * 32  # and a little more
    tokens, peaks = np.zeros((8, 65), np.int32), {}
    for loss in LOSSES:
        run = begun(framework, recipe, loss, tokens)
        found = MEASURES[framework](*run, tokens).to_json()
        peaks[loss] = found["peak_bytes"]
        assert found["peak_bytes"] > found["state_bytes"] == pytest.approx(3 * weights, rel=0.02)
    logits = 4 * 8 * 64 * 16384
    assert peaks["standard"] > peaks["chunked"] + logits


@pytest.mark.parametrize("framework", MEASURES)
def test_what_a_run_leaves(framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained by its example as its flags say, and then one step more."""
    memory_file = tmp_path / "memory.json"
    flags = [
        "--steps=2", "--batch_size=2", "--length=16", "--vocab_size=300", "--dim=16",
        "--layers=1", f"--output_dir={tmp_path}",
    ]  # fmt: skip
    monkeypatch.setattr(child, "die_with_parent", lambda: None)
    monkeypatch.setattr(text, "_docstrings", list)  # to read the standard library takes seconds
    monkeypatch.setattr(sys, "argv", ["child", framework, str(memory_file), *flags])
    child.main()
    assert sum("loss" in line for line in objects_in(tmp_path / "metrics.jsonl")) == 2
    (memory,) = objects_in(memory_file)
    assert memory["probe"] == PROBES[framework]
    assert memory["peak_bytes"] > memory["state_bytes"] > 3 * 4 * 300 * 16  # with its moments
    assert memory["peak_bytes_by_probe"] == {PROBES[framework]: memory["peak_bytes"]}


def test_the_first_probe_counts() -> None:
    """And each peak includes the state."""
    found = StepMemory(100, [Reading("first", 20), Reading("second", 30)]).to_json()
    assert found == {
        "state_bytes": 100, "peak_bytes": 120, "probe": "first",
        "peak_bytes_by_probe": {"first": 120, "second": 130},
    }  # fmt: skip
