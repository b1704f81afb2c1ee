"""The docs' Python runs as it stands, and prints what they say it prints."""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
from pathlib import Path

import pytest
from sybil.document import Document
from sybil.example import Example
from sybil.parsers.markdown import PythonCodeBlockParser

from tests.docs.prepared import prepared_for

ROOT = Path(__file__).resolve().parents[2]
SNIPPETS = [
    pytest.param(example, id=f"{name}:{example.line}")
    for name in ("README.md", "BUILD.md")
    for example in Document.parse(str(ROOT / name), PythonCodeBlockParser())
]
# Objects whose docstring opens with an example, after its first line.
DOCSTRINGS = ["jax_impl.plan", "torch_impl.plan", "torch_impl.LinearCrossEntropyLoss"]


@pytest.mark.parametrize("example", SNIPPETS)
def test_snippet(example: Example, capsys: pytest.CaptureFixture[str]) -> None:
    example.namespace.clear()  # Sybil's is one for a document
    example.namespace.update(prepared_for(example.parsed))
    example.evaluate()
    printed = capsys.readouterr().out
    assert not printed or printed.split() == _promised(example.parsed)


@pytest.mark.parametrize("name", DOCSTRINGS)
def test_docstring(name: str) -> None:
    package, _, member = name.rpartition(".")
    module = importlib.import_module(package)
    _, _, after = (inspect.getdoc(getattr(module, member)) or "").partition("\n\n")
    example = textwrap.dedent(after.partition("\n\n")[0])
    assert f"{member}(" in example
    exec(example, vars(module) | prepared_for(example, package))


def _promised(snippet: str) -> list[str]:
    """The words of the comment that ends a snippet."""
    lines = re.search(r"(?:^#.*\n?)+\Z", snippet, re.MULTILINE)
    return re.sub("^#", "", lines.group(), flags=re.MULTILINE).split() if lines else []
