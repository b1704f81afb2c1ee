"""`pytest --done=FILE`: a suite that was stopped goes on with what has not passed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NO_TESTS_LEFT = 5


def run(done: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.conftest"]
    return subprocess.run(
        [*command, f"--done={done}", *arguments],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip


def test_what_has_passed_or_is_skipped_is_left_out(tmp_path):
    """Also by the processes of xdist, of which none writes but the one that they report to."""
    done, tests = tmp_path / "done.txt", tmp_path / "test_some.py"
    tests.write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('number', range(4))\n"
        "def test_passing(number):\n    pass\n"
        "def test_skipped():\n    pytest.skip('not here')\n"
    )
    first = run(done, tests, "-n", "2")
    assert first.returncode == 0, first.stdout
    names = done.read_text().splitlines()
    assert len(names) == len(set(names)) == 5
    assert run(done, tests).returncode == NO_TESTS_LEFT

    done.write_text("\n".join(names[1:]) + "\n")
    again = run(done, tests)
    assert again.returncode == 0
    assert done.read_text().splitlines() == [*names[1:], names[0]]


def test_what_fails_is_tried_again(tmp_path):
    done = tmp_path / "done.txt"
    failing = tmp_path / "test_failing.py"
    failing.write_text("def test_it():\n    assert False\n")
    assert run(done, failing).returncode == 1
    assert not done.exists()
