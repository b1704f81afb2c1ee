"""The table of breakages fits the code that it breaks: whoever changes that mends the entry."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.breakages.breakage import table_errors
from tests.breakages.table import BREAKAGES, TEST_FOLDERS

ROOT = Path(__file__).resolve().parents[2]


def test_entries_fit_the_code() -> None:
    """Each names one place, compiles, and names a test file that exists."""
    assert not table_errors(BREAKAGES, ROOT, TEST_FOLDERS)


def test_there_are_enough_of_each_package() -> None:
    counts = Counter(breakage.package for breakage in BREAKAGES)
    assert sum(counts.values()) >= 80
    assert min(counts[package] for package in ("loss_spec", "jax_impl", "torch_impl")) >= 10
    assert counts["harness"] >= 30
