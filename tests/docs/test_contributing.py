"""What CONTRIBUTING.md names is there: files, targets of make, modules and scripts."""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = re.sub("```.*?```", "", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)

QUOTED = [" ".join(text.split()) for text in re.findall("`([^`]+)`", TEXT)]
COMMANDS = [*QUOTED, *re.findall(r"^ {4}(\S.*)$", TEXT, re.MULTILINE)]
FILES = (".cff", ".md", ".py", ".toml", ".yaml")
PATHS = {
    *(text for text in QUOTED if " " not in text and ("/" in text or text.endswith(FILES))),
    *re.findall(r"\]\(([^)#:]+)\)", TEXT),
}
SCRIPTS = {path for path in PATHS if path.startswith(".ci/")}
TARGETS = {text.split()[1] for text in COMMANDS if text.startswith("make ")}
MODULES = {text.split()[2] for text in COMMANDS if text.startswith("python -m ")}


def test_paths_exist() -> None:
    assert not [path for path in sorted(PATHS) if not (ROOT / path).exists()]


def test_scripts_can_be_run() -> None:
    assert not [path for path in sorted(SCRIPTS) if not os.access(ROOT / path, os.X_OK)]


def test_makefile_has_the_targets() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) >= TARGETS


@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_can_be_run(module: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    if spec.submodule_search_locations is not None:
        assert importlib.util.find_spec(f"{module}.__main__")


def test_names_are_found() -> None:
    """Or the tests above would hold whatever is written."""
    assert {"loss_spec/options.py", "README.md", "harness/report"} <= PATHS
    assert {"test", "test-all", "lint"} <= TARGETS
    assert {"harness.conformance", "tests.breakages"} <= MODULES
    assert ".ci/run" in SCRIPTS
