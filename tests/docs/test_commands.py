"""Every command of the harness in the docs has flags that exist, with values they can have."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from examples.recipe import parse

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r'(?:python -m (harness[\w.]*)|make run FLAGS=")([^`"\n]*)')


EXAMPLE = re.compile(r"python -m examples\.(\w+)([^`\n#]*)")


def examples() -> set[tuple[str, str]]:
    """Those whose flags the training examples share."""
    return {
        (module, arguments.strip())
        for name in ("README.md", "BUILD.md")
        for module, arguments in EXAMPLE.findall((ROOT / name).read_text())
    }


def commands() -> set[tuple[str, str]]:
    """Module and arguments, comments and what is written [so] left out."""
    found = set()
    for name in ("README.md", "BUILD.md", "CONTRIBUTING.md", "results/README.md"):
        text = (ROOT / name).read_text().replace("\\\n", " ")
        for module, arguments in COMMAND.findall(text):
            given = re.sub(r"\[.*?\]", "", arguments)
            found.add((module or "harness.run", shlex.join(shlex.split(given, comments=True))))
    return found


@pytest.mark.parametrize(("name", "arguments"), sorted(commands()))
def test_command(
    name: str,
    arguments: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    flags = module.define_flags()
    flags([name, *shlex.split(arguments)])
    if "dry_run" in flags:
        # All that precedes the prediction, which takes a second or three.
        monkeypatch.setattr(module, "show_dry_run", lambda *_: 0)
        status = module.main([*shlex.split(arguments), "--dry_run"])
        assert status == 0, capsys.readouterr().err


def test_commands_are_found() -> None:
    found = {name for name, _ in commands()}
    assert {"harness.run", "harness.tune", "harness.report", "harness.compare"} <= found


@pytest.mark.parametrize(("module", "arguments"), sorted(examples()))
def test_example(module: str, arguments: str, tmp_path: Path) -> None:
    assert importlib.util.find_spec(f"examples.{module}")
    given = [each for each in shlex.split(arguments) if each != "--resume"]  # of no run that is
    parse([*given, f"--output_dir={tmp_path}"], "", "unused")


def test_examples_are_found() -> None:
    assert {name for name, _ in examples()} >= {"train_flax", "train_torch"}
