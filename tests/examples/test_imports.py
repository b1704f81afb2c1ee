"""An example that is copied out of here needs a loss of ours, and none of the harness."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
OURS = {"examples", "jax_impl", "torch_impl"}
REQUIREMENTS = ("core", "jax", "torch", "examples")


def declared() -> set[str]:
    """What requirements/ names for the examples and their frameworks, as Python imports it."""
    texts = [(ROOT / "requirements" / f"{name}.txt").read_text() for name in REQUIREMENTS]
    return {name for text in texts for name in re.findall(r"^\w+", text, re.MULTILINE)}


def imported(path: Path) -> set[str]:
    """The packages that a file names in its imports, wherever they stand."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module if node.module and not node.level else path.parent.name)
    return {name.partition(".")[0] for name in found}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_imports(path: Path) -> None:
    assert imported(path) <= sys.stdlib_module_names | OURS | declared()


def test_imports_are_found() -> None:
    found = set().union(*map(imported, EXAMPLES))
    assert found >= OURS | {"numpy", "torch", "jax", "flax", "orbax", "tokenizers"}
    assert "harness" not in found
