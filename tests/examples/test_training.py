"""The training examples: one model in two frameworks, and a run that goes on after a kill."""

from __future__ import annotations

import functools
import itertools
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
from flax import nnx

from examples import text, train_flax, train_torch
from examples.journal import Journal
from examples.metrics import METRICS, read_metrics
from examples.recipe import LOSSES, Recipe, parse
from tests.tables import slow

EXAMPLES = {"torch": train_torch, "jax": train_flax}
TINY = (
    "--steps=6", "--every=3", "--batch_size=4", "--length=24", "--vocab_size=400", "--dim=32",
    "--layers=1", "--learning_rate=1e-2",
)  # fmt: skip
# The rounding of six optimizer steps in float32: a different loss is off by far more.
SAME = 1e-5
NOWHERE = Path("unused")


DOCSTRINGS = text._docstrings


@pytest.fixture(autouse=True, scope="module")
def short_text():
    """Without the docstrings of the standard library, which take seconds to read; made once."""
    load_text = functools.cache(text.load_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_docstrings", list)
        for module in (text, *EXAMPLES.values()):
            patch.setattr(module, "load_text", load_text)
        yield


def run(framework: str, directory: Path, *flags: str) -> list[dict[str, Any]]:
    EXAMPLES[framework].main([*TINY, f"--output_dir={directory}", *flags])
    return metrics(directory)


def metrics(directory: Path) -> list[dict[str, Any]]:
    return read_metrics(directory / METRICS)


Finished = Callable[..., Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The folder of a run that is complete, which several tests look at: not to be written to."""

    @functools.cache
    def train(framework: str, loss: str = "chunked") -> Path:
        directory = tmp_path_factory.mktemp(f"{framework}_{loss}")
        run(framework, directory, f"--loss={loss}")
        return directory

    return train


def losses(lines: list[dict[str, Any]]) -> list[float]:
    return [line["loss"] for line in lines if "loss" in line]


def test_curves_lie_on_each_other(finished: Finished) -> None:
    runs = {
        (framework, loss): metrics(finished(framework, loss))
        for framework, loss in itertools.product(EXAMPLES, LOSSES)
    }
    expected = losses(runs["torch", "standard"])
    assert len(expected) == 6
    assert expected[-1] < expected[0] - 0.05
    for lines in runs.values():
        assert losses(lines) == pytest.approx(expected, rel=SAME)
        held_out = [line["held_out_loss"] for line in lines if "held_out_loss" in line]
        assert len(held_out) == 2
        last = lines[-1]
        assert lines[0]["recipe"]["vocab_size"] == 400
        assert last["sample"].startswith("The value of the")
        assert last["tokens_per_s"] == pytest.approx(4 * 24 / last["median_step_s"])
    samples = {lines[-1]["sample"] for lines in runs.values()}
    assert len(samples) == 1


def test_both_start_from_the_same_weights() -> None:
    recipe = Recipe(output_dir=NOWHERE, batch_size=2, length=16, vocab_size=300, dim=32)
    tokens = np.arange(32).reshape(2, 16)
    model = train_flax.Decoder(recipe, nnx.Rngs(1))
    train_flax.set_first_weights(model, recipe)
    own = train_torch.Decoder(recipe)
    train_torch.set_first_weights(own, recipe)
    with torch.no_grad():
        hidden = own(torch.from_numpy(tokens))
        logits = own.head(hidden)
    np.testing.assert_allclose(model(tokens), hidden, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.head(model(tokens)), logits, rtol=1e-4, atol=1e-5)
    assert not np.array_equal(model.tokens.embedding[:16], model.positions.embedding[...])
    count = sum(array.size for array in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert count == sum(parameter.numel() for parameter in own.parameters())


class KilledError(BaseException):
    """What ends a process in the middle of a step."""


@pytest.mark.parametrize("framework", EXAMPLES)
def test_a_killed_run_goes_on(
    framework: str, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the last checkpoint, with the batches and the learning rate of a run that was not."""
    expected = metrics(finished(framework))
    step = Journal.step

    def killed(self: Journal, number: int, *figures: float) -> None:
        step(self, number, *figures)
        if number == 4:
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "step", killed)
        with pytest.raises(KilledError):
            run(framework, tmp_path)
    before = metrics(tmp_path)
    assert len(losses(before)) == 5  # two steps beyond the checkpoint, which are done again
    found = run(framework, tmp_path, "--resume")
    assert losses(found) == losses(expected)
    assert [line["step"] for line in found] == [line["step"] for line in expected]
    assert found[-1]["sample"] == expected[-1]["sample"]


@pytest.mark.parametrize("framework", EXAMPLES)
def test_a_second_run_takes_the_place_of_the_first(
    framework: str, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Its recipe and its checkpoints too, which are of later steps than the new ones.

    One that is killed before its first checkpoint has nothing to restore, and has lost nothing
    but the steps.
    """
    shutil.copytree(finished(framework), tmp_path, dirs_exist_ok=True)
    step = Journal.step

    def killed(self: Journal, number: int, *figures: float) -> None:
        step(self, number, *figures)
        raise KilledError

    flags = ["--steps=3", "--learning_rate=1e-3"]
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "step", killed)
        with pytest.raises(KilledError):
            run(framework, tmp_path, *flags)
    found = run(framework, tmp_path, *flags, "--resume")
    assert len(losses(found)) == 3
    assert found[0]["recipe"]["learning_rate"] == 1e-3
    printed = capsys.readouterr().out
    assert "perplexity" in printed
    assert "tokens/s" in printed
    assert found[-1]["sample"] in printed


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--dim=64", "--dim: expected 32, that of the run to go on with, got 64"),
        ("--loss=standard", "--loss: expected chunked, that of the run"),
        ("--seed=1", "--seed: expected 0, that of the run"),
    ],
)
def test_resumed_as_another_run(
    flag: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal(parse([*TINY, f"--output_dir={tmp_path}"], "", "unused"), 0):
        pass
    with pytest.raises(SystemExit):
        parse([*TINY, "--resume", flag, f"--output_dir={tmp_path}"], "", "unused")
    assert words in capsys.readouterr().err


def test_fewer_steps_than_are_done(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished("torch"), tmp_path, dirs_exist_ok=True)
    with pytest.raises(SystemExit, match="--steps: expected 6 or more, which are done, got 4"):
        run("torch", tmp_path, "--resume", "--steps=4")


def test_more_steps_than_before(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished("torch"), tmp_path, dirs_exist_ok=True)
    found = run("torch", tmp_path, "--resume", "--steps=8")
    assert len(losses(found)) == 8
    assert found[0]["recipe"]["steps"] == 8
    assert sum("sample" in line for line in found) == 1


def test_diverged(tmp_path: Path) -> None:
    with (
        Journal(Recipe(output_dir=tmp_path), 0) as journal,
        pytest.raises(
            FloatingPointError, match="loss: expected a finite number at step 3, got nan"
        ),
    ):
        journal.step(3, float("nan"), 1.0)
    last = metrics(tmp_path)[-1]
    assert last["step"] == 3
    assert math.isnan(last["loss"])


@pytest.mark.parametrize("cut", ['{"step": 1, "lo', "\0\0\0"])
def test_metrics_that_were_cut_short(cut: str, tmp_path: Path) -> None:
    path = tmp_path / METRICS
    assert read_metrics(path) == []
    path.write_text(json.dumps({"step": 0, "loss": 1.0}) + f'\n{cut}\n{{"step": 2}}')
    assert read_metrics(path) == [{"step": 0, "loss": 1.0}]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--loss=cheap"], "invalid choice: 'cheap'"),
        (["--steps=0"], "--steps: expected an integer > 0, got 0"),
        (["--dim=33"], "--dim: expected a multiple of --heads=2, got 33"),
        (["--learning_rate=nan"], "--learning_rate: expected a number > 0, got nan"),
        (["--seed=-1"], "--seed: expected an integer >= 0, got -1"),
        (["--resume", "--output_dir=/nowhere"], "--resume: expected a run to go on with"),
    ],
)
def test_bad_flags(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(flags, "", "unused")
    assert words in capsys.readouterr().err


def test_learning_rate_rises_then_falls() -> None:
    recipe = Recipe(output_dir=NOWHERE, steps=200, learning_rate=1.0)
    rates = [recipe.rate(step) for step in range(201)]
    assert rates[0] == 0.05
    assert max(rates) == pytest.approx(1.0, abs=0.03)
    assert rates[-1] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("vocab_size", "docstrings"),
    [
        pytest.param(400, list, id="short"),
        pytest.param(Recipe.vocab_size, DOCSTRINGS, id="default", marks=slow),
    ],
)
def test_text(
    vocab_size: int, docstrings: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """English, the same each time; no document is trained on and held out."""
    monkeypatch.setattr(text, "_docstrings", docstrings)
    found = text.load_text(vocab_size)
    assert found.tokenizer.get_vocab_size() == vocab_size
    first = found.batch(4, 64, (1, 0, 7))
    assert first.shape == (4, 65)
    np.testing.assert_array_equal(first, found.batch(4, 64, (1, 0, 7)))
    assert not np.array_equal(first, found.batch(4, 64, (1, 0, 8)))
    assert " the " in found.decode(list(map(int, found.training[:2000])))
    end = found.tokenizer.token_to_id("<|end|>")
    documents = [
        {tuple(part) for part in np.split(tokens, np.flatnonzero(tokens == end) + 1)}
        for tokens in (found.training, found.held_out)
    ]
    assert len(documents[1]) >= 2
    assert not {each for each in documents[0] & documents[1] if len(each) > 200}


def test_windows_longer_than_the_text() -> None:
    with pytest.raises(ValueError, match=r"length: expected less than the text's [\d,]+, got"):
        text.load_text(400).held_out_batches(2, 10**7)


def test_more_entries_than_the_text_has() -> None:
    with pytest.raises(ValueError, match=r"vocab_size: expected one that the text has merges for"):
        text.load_text(10)
