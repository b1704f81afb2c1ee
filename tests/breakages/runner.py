"""Tries breakages in copies of the checkout, and says which test caught each.

The checkout itself is never touched, whatever interrupts the run.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory, TemporaryFile
from typing import NamedTuple

from tests.breakages.breakage import Breakage, broken_text

CAUGHT = "caught"
NOT_CAUGHT = "not caught"
BROKEN_TABLE = "broken table"

FAST, ALL = "fast", "all"
# What `make test` and `make test-all` give to pytest.
_FAST_RUN = ("-m", "not slow")
_RUNS = {FAST: (_FAST_RUN,), ALL: (_FAST_RUN, ("-m", "slow or optimized", "--xla_optimized"))}

FILE_LIMIT_S = 600.0
PACKAGE_LIMIT_S = 3600.0

# pytest's exit statuses. That of a collection error is another one: it is no test that failed.
_PASSED, _FAILED, _NO_TESTS = 0, 1, 5
_FIRST_FAILURE = re.compile(r"^(?:FAILED|ERROR) (\S+?::.+?)(?: - .*)?$", re.MULTILINE)


class Result(NamedTuple):
    """What became of one breakage."""

    breakage: Breakage
    status: str
    detail: str
    """The test that caught it, or what happened instead."""
    seconds: float


class _Ended(NamedTuple):
    exit_status: int | None
    """None if it ran out of time."""
    output: str


class Runner:
    """Copies of a checkout, one for each job, and the tests that run in them."""

    def __init__(
        self,
        root: Path,
        test_folders: dict[str, tuple[str, ...]],
        *,
        tier: str = FAST,
        jobs: int = 1,
        file_limit_s: float = FILE_LIMIT_S,
        package_limit_s: float = PACKAGE_LIMIT_S,
    ) -> None:
        self._root, self._test_folders = root, test_folders
        self._runs, self._jobs = _RUNS[tier], jobs
        self._file_limit_s, self._package_limit_s = file_limit_s, package_limit_s
        self._copies: SimpleQueue[Path] = SimpleQueue()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._is_stopped = threading.Event()
        self._passes_unbroken: dict[str, bool] = {}

    def run(self, breakages: Sequence[Breakage]) -> Iterator[Result]:
        """The results as they come."""
        with TemporaryDirectory(prefix="breakages-") as scratch:
            for index in range(self._jobs):
                copy = Path(scratch) / str(index)
                copy_checkout(self._root, copy)
                self._copies.put(copy)
            with ThreadPoolExecutor(self._jobs) as pool:
                futures = [pool.submit(self._try, breakage) for breakage in breakages]
                try:
                    for future in as_completed(futures):
                        yield future.result()
                finally:  # an interrupt too, or whoever reads the results has had enough
                    self._stop()
                    pool.shutdown(cancel_futures=True)

    def _stop(self) -> None:
        self._is_stopped.set()
        for process in list(self._processes):
            _kill_group(process)

    def _try(self, breakage: Breakage) -> Result:
        copy, start = self._copies.get(), time.monotonic()
        try:
            status, detail = self._first_failure(copy, breakage)
            if status == CAUGHT and "::" in detail and not self._passes(copy, detail):
                status, detail = BROKEN_TABLE, f"{detail} fails without the breakage, too"
        finally:
            self._copies.put(copy)
        return Result(breakage, status, detail, time.monotonic() - start)

    def _first_failure(self, copy: Path, breakage: Breakage) -> tuple[str, str]:
        """Status and detail: by the test file that should fail, else by all of the package's."""
        with _broken(copy, breakage):
            hint = [*_own_framework(breakage), breakage.caught_by]
            ended = self._pytest(copy, hint, self._file_limit_s)
            if ended.exit_status == _PASSED:
                folders = self._test_folders[breakage.package]
                ended = self._pytest(copy, folders, self._package_limit_s)
        if ended.exit_status == _PASSED:
            return NOT_CAUGHT, "all tests pass"
        if ended.exit_status == _FAILED:
            failed = _FIRST_FAILURE.search(ended.output)
            return CAUGHT, failed[1] if failed else "a test that pytest does not name"
        if ended.exit_status is None:
            return NOT_CAUGHT, "no end within the time limit"
        last_line = (ended.output.strip().splitlines() or [""])[-1]
        return BROKEN_TABLE, f"pytest ended with status {ended.exit_status}: {last_line}"

    def _passes(self, copy: Path, test: str) -> bool:
        """Whether a test passes in the unbroken copy: one that always fails catches nothing."""
        if test not in self._passes_unbroken:
            ended = self._pytest(copy, [test], self._file_limit_s)
            self._passes_unbroken[test] = ended.exit_status == _PASSED
        return self._passes_unbroken[test]

    def _pytest(self, copy: Path, tests: Sequence[str], limit_s: float) -> _Ended:
        """Each run of the tier over these tests, to the first that does not pass."""
        for run in self._runs:
            ended = self._pytest_once(copy, [*run, *tests], limit_s)
            if ended.exit_status not in (_PASSED, _NO_TESTS):  # a file may have no slow tests
                return ended
        return ended._replace(exit_status=_PASSED)

    def _pytest_once(self, copy: Path, arguments: Sequence[str], limit_s: float) -> _Ended:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            # A file that changes twice in a second may have the age and size of its bytecode.
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        with TemporaryFile() as output:
            process = subprocess.Popen(
                [*command, *arguments],
                cwd=copy, env=environment, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,  # to be ended with all that the tests have started
            )  # fmt: skip
            self._processes.add(process)
            if self._is_stopped.is_set():
                _kill_group(process)
            exit_status: int | None = None
            with suppress(subprocess.TimeoutExpired):
                exit_status = process.wait(limit_s)
            _kill_group(process)
            process.wait()
            self._processes.discard(process)
            output.seek(0)
            return _Ended(exit_status, output.read().decode(errors="replace"))


def _own_framework(breakage: Breakage) -> tuple[str, ...]:
    """Of tests that both frameworks have, those of the broken one."""
    framework = breakage.package.removesuffix("_impl")
    return () if framework == breakage.package else ("-k", framework)


@contextmanager
def _broken(copy: Path, breakage: Breakage) -> Iterator[None]:
    """The copy with the mistake in it, for the length of the block."""
    path = copy / breakage.path
    text = path.read_text()
    path.write_text(broken_text(breakage, text))
    try:
        yield
    finally:
        path.write_text(text)


def copy_checkout(root: Path, destination: Path) -> None:
    """The files that git tracks, as they are in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (root / name).is_file():  # not one that is deleted but not yet from git
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, destination / name)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # all of it has ended
        os.killpg(process.pid, signal.SIGKILL)
