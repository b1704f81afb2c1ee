"""What the runner says of a breakage, in a checkout with two functions and four tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.breakages.breakage import Breakage, table_errors
from tests.breakages.runner import ALL, BROKEN_TABLE, CAUGHT, NOT_CAUGHT, Runner

FILES = {
    "shop/prices.py": "def twice(price):\n    return 2 * price\n\n\n"
    "def thrice(price):\n    return 3 * price\n\n\nLIMIT = 10\n",
    "tests/shop/test_twice.py": "from shop.prices import LIMIT, twice\n\n\n"
    "def test_twice():\n    assert twice(LIMIT) == 20\n",
    "tests/shop/test_thrice.py": "from shop.prices import thrice\n\n\n"
    "def test_thrice():\n    assert thrice(1) == 3\n",
    "tests/shop/test_fails_anyway.py": "def test_fails_anyway():\n    assert False\n",
    "tests/conftest.py": "def pytest_addoption(parser):\n"
    '    parser.addoption("--xla_optimized", action="store_true")\n',
    "tests/shop/test_limit.py": "import pytest\n\nfrom shop.prices import LIMIT\n\n\n"
    "@pytest.mark.slow\ndef test_limit(pytestconfig):\n"
    '    assert pytestconfig.getoption("xla_optimized")\n    assert isinstance(LIMIT, int)\n',
    "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["."]\nmarkers = ["slow"]\n',
}
TWICE, THRICE, SLOW = (f"tests/shop/test_{name}.py" for name in ("twice", "thrice", "limit"))
TEST_FOLDERS = {"shop": (TWICE, THRICE, SLOW)}

# (old, new, the test file that should fail), and what becomes of it.
BREAKAGES = {
    "caught by its file": (
        ("return 2 *", "return 4 *", TWICE), CAUGHT, f"{TWICE}::test_twice",
    ),
    "caught by another file": (
        ("return 3 *", "return 4 *", f"{TWICE}::test_twice"), CAUGHT, f"{THRICE}::test_thrice",
    ),
    "no fast test looks": (("LIMIT = 10", "LIMIT = 10.0", TWICE), NOT_CAUGHT, "all tests pass"),
    "its file has no fast test": (
        ("LIMIT = 10", "LIMIT = 9", SLOW), CAUGHT, f"{TWICE}::test_twice",
    ),
    "no test can be collected": (
        ("LIMIT = 10", "", TWICE), BROKEN_TABLE, "pytest ended with status 2",
    ),
    "its test never passes": (
        ("return 2 *", "return 4 *", "tests/shop/test_fails_anyway.py"),
        BROKEN_TABLE, "tests/shop/test_fails_anyway.py::test_fails_anyway fails without",
    ),
}  # fmt: skip


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # half of what each pytest takes
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for command in (["init", "--quiet"], ["add", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_results(root: Path) -> None:
    breakages = [
        Breakage(name, "shop/prices.py", *places) for name, (places, _, _) in BREAKAGES.items()
    ]
    runner = Runner(root, TEST_FOLDERS, jobs=2)
    found = {result.breakage.name: result for result in runner.run(breakages)}
    for name, (_, status, detail) in BREAKAGES.items():
        assert (found[name].status, found[name].detail[: len(detail)]) == (status, detail)
    # All of it has happened in copies.
    assert {name: (root / name).read_text() for name in FILES} == FILES


def test_slow_tests_catch_in_the_tier_that_has_them(root: Path) -> None:
    breakage = Breakage("a float", "shop/prices.py", "LIMIT = 10", "LIMIT = 10.0", SLOW)
    (result,) = Runner(root, TEST_FOLDERS, tier=ALL).run([breakage])
    assert (result.status, result.detail) == (CAUGHT, f"{SLOW}::test_limit")


def test_no_end_is_not_caught(root: Path) -> None:
    endless = "    while True: pass\n    return 2"
    breakage = Breakage("no end", "shop/prices.py", "    return 2", endless, TWICE)
    (result,) = Runner(root, TEST_FOLDERS, file_limit_s=2.0).run([breakage])
    assert (result.status, result.detail) == (NOT_CAUGHT, "no end within the time limit")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"old": "return"}, "expected `old` once in shop/prices.py, got 2"),
        ({"old": "return 5"}, "expected `old` once in shop/prices.py, got 0"),
        ({"new": "return ("}, "shop/prices.py does not compile"),
        ({"new": "return 2"}, "`new` is the same as `old`"),
        ({"caught_by": "tests/shop/test_twice.py/no"}, "there is no tests/shop/test_twice.py/no"),
        ({"caught_by": f"{TWICE}::test_none"}, "there is no tests/shop/test_twice.py::test_none"),
        ({"caught_by": "tests/test_other.py"}, "expected `caught_by` in tests/shop/"),
        ({"path": "shop/none.py"}, "No such file"),
    ],
)
def test_entry_that_does_not_fit(root: Path, changes: dict[str, str], error: str) -> None:
    good = Breakage("one", "shop/prices.py", "return 2", "return 4", TWICE)
    assert table_errors([good], root, TEST_FOLDERS) == []
    errors = table_errors([good._replace(**changes)], root, TEST_FOLDERS)
    assert error in " ".join(errors)


def test_names_are_not_taken_twice(root: Path) -> None:
    good = Breakage("one", "shop/prices.py", "return 2", "return 4", TWICE)
    assert "no other entry" in table_errors([good, good], root, TEST_FOLDERS)[0]
