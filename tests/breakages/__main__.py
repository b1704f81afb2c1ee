"""Breaks the code on purpose, one mistake at a time, and says which test notices.

    python -m tests.breakages                       every breakage, against the fast tier
    python -m tests.breakages --tier=all            against the tests of `make test-all`
    python -m tests.breakages --package=jax_impl softcap
    python -m tests.breakages --list

Each is tried in a copy of the files that git tracks. The test file that should catch it runs
first, to the first failure; if that passes, all tests of the package do. A test counts only
if it passes without the breakage.

Exit status: 0 when every breakage was caught, 1 when one was not, 2 for unusable arguments or
a table that no longer fits the code, 130 after an interrupt.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.interrupts import terminated_is_interrupted
from tests.breakages.breakage import Breakage, table_errors
from tests.breakages.runner import ALL, CAUGHT, FAST, Result, Runner
from tests.breakages.table import BREAKAGES, TEST_FOLDERS

ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED = 130


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = _parser()
    parsed = parser.parse_args(arguments)
    breakages = [
        breakage
        for breakage in BREAKAGES
        if parsed.package in (None, breakage.package)
        and (not parsed.name or any(_is_part(part, breakage) for part in parsed.name))
    ]
    if not breakages:
        parser.error("no breakage has such a name; --list shows them")
    if errors := table_errors(breakages, ROOT, TEST_FOLDERS):
        print("\n".join(errors), file=sys.stderr)
        return 2
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    if parsed.list:
        console.print(_listing(breakages))
        return 0
    runner = Runner(ROOT, TEST_FOLDERS, tier=parsed.tier, jobs=parsed.jobs)
    results: list[Result] = []
    is_interrupted = False
    try:
        with terminated_is_interrupted():
            for result in runner.run(breakages):
                results.append(result)
                _show_progress(result, len(results), len(breakages))
    except KeyboardInterrupt:
        is_interrupted = True
    console.print(_table(sorted(results, key=lambda result: breakages.index(result.breakage))))
    caught = sum(result.status == CAUGHT for result in results)
    tests = {FAST: "the fast tier", ALL: "all tests"}[parsed.tier]
    console.print(f"{caught} of {len(results)} caught by {tests}")
    if is_interrupted:
        console.print(f"interrupted with {len(breakages) - len(results)} to go")
        return INTERRUPTED
    return 0 if caught == len(results) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.breakages",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="*", help="parts of names: only those breakages")
    parser.add_argument("--list", action="store_true", help="list the breakages, run nothing")
    parser.add_argument("--tier", choices=(FAST, ALL), default=FAST, help="which tests run")
    parser.add_argument("--package", choices=tuple(TEST_FOLDERS), help="breakages of one package")
    parser.add_argument("--jobs", type=_positive, default=2, help="how many run at a time")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected an integer > 0, got {text}")
    return int(text)


def _is_part(part: str, breakage: Breakage) -> bool:
    return part.casefold() in breakage.name.casefold()


def _show_progress(result: Result, done: int, total: int) -> None:
    seconds = f"{result.seconds:.0f} s"
    line = f"{done}/{total}  {result.status:<12} {seconds:>6}  {result.breakage.name}"
    print(line, file=sys.stderr, flush=True)


def _table(results: Sequence[Result]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("breakage", "status", "caught by, or what happened instead"):
        table.add_column(name, overflow="fold")
    table.add_column("s", justify="right")
    for result in results:
        style = "" if result.status == CAUGHT else "bold red"
        # Text, not str: brackets in the id of a test are no markup.
        cells = result.breakage.name, result.status, result.detail, f"{result.seconds:.0f}"
        table.add_row(*(Text(cell, style=style) for cell in cells))
    return table


def _listing(breakages: Sequence[Breakage]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("breakage", "of", "should be caught by"):
        table.add_column(name, overflow="fold")
    for breakage in breakages:
        table.add_row(Text(breakage.name), breakage.path, breakage.caught_by)
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
