"""What is stated once: requirements, which extras and `make` share, and the version.

`.ci/packaging` builds the wheel and installs it.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION = PYPROJECT["project"]["version"]
DYNAMIC = PYPROJECT["tool"]["setuptools"]["dynamic"]
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


def test_version_stands_in_one_place() -> None:
    """Records name the versions of other packages, and a requirement may be of the same number."""
    places = [".", ":!pyproject.toml", ":!CHANGELOG.md", ":!results", ":!requirements"]
    found = subprocess.run(
        ["git", "grep", "--fixed-strings", "--word-regexp", VERSION, "--", *places],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stdout) == (1, ""), found.stderr


def test_version_is_the_newest_release_of_the_changelog() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    unreleased, newest, *_ = headings
    assert unreleased == "[Unreleased]"
    assert re.fullmatch(rf"\[{re.escape(VERSION)}\] - \d{{4}}-\d\d-\d\d", newest)
