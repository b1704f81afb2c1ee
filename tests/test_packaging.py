"""Extras and the sets that `make` installs are one; `.ci/packaging` builds and installs them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DYNAMIC = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]
EXTRAS = DYNAMIC["optional-dependencies"]


def test_extra_cuda12_is_the_set_for_a_gpu() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    files = {line.removeprefix("-r ") for line in lines if not line.startswith("#")}
    assert files == {*DYNAMIC["dependencies"]["file"], *EXTRAS["cuda12"]["file"]}


def test_extras_for_a_gpu_differ_in_cuda_alone() -> None:
    cuda12, cuda13 = set(EXTRAS["cuda12"]["file"]), set(EXTRAS["cuda13"]["file"])
    assert cuda12 ^ cuda13 == {"requirements/cuda12.txt", "requirements/cuda13.txt"}


@pytest.mark.parametrize("name", ["README.md", "BUILD.md"])
def test_docs_name_extras_that_exist(name: str) -> None:
    """pip only warns of one that does not."""
    named = ",".join(re.findall(r"\.\[([\w,]+)\]", (ROOT / name).read_text()))
    assert set(filter(None, named.split(","))) <= EXTRAS.keys()
