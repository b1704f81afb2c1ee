"""Draws a report again, from the records of one run or of several; needs no framework.

    python -m harness.report results/20260101-120000
    python -m harness.report results/cpu results/gpu --output_dir=results/cpu-and-gpu

One folder gets its report anew, in place (and its `tune.md`, if `harness.tune` made it).
Several give one report, in which each case stands beside the same case of the other runs
and is compared with the standard and the floor of its own.

Exit status: 0; 2 for unusable flags and folders.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from absl import flags

from harness.flags import BadFlagError, new_console
from harness.report import write_merged_report, write_report
from harness.report.run import named, names_apart
from harness.store import RunStore, open_run

COMMAND = "harness.report"
_TUNE = "harness.tune"
_NEEDED = ("status", "framework", "variant", "dtype", "batch_size", "seq_len", "hidden_dim",
           "vocab_size")  # fmt: skip


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    values.set_gnu_getopt()  # flags may follow the folders
    flags.DEFINE_string(
        "output_dir",
        None,
        "Where the report is written. Default: one run's own folder; for several a new one "
        "under results, named by the time.",
        flag_values=values,
    )
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    return values


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    console = new_console()
    values = define_flags()
    try:
        directories = [Path(argument) for argument in values([COMMAND, *arguments])[1:]]
        if values.help:
            console.print(f"{__doc__}\n{values.get_help()}", markup=False)
            return 0
        stores = _open(directories)
        output_dir = _output_dir(values.output_dir, directories)
        for path in _write(stores, output_dir):
            console.print(f"report    {path}", markup=False, soft_wrap=True)
    except (flags.Error, BadFlagError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"{COMMAND}: expected folders that can be read and written ({error})", file=sys.stderr
        )
        return 2
    return 0


def _open(directories: Sequence[Path]) -> list[RunStore]:
    if not directories:
        raise BadFlagError("expected one folder of a run or more, got none")
    resolved = [directory.resolve() for directory in directories]
    for directory in directories:
        if resolved.count(directory.resolve()) > 1:
            raise BadFlagError(f"expected each run once, got {directory} again")
    stores = []
    for directory in directories:
        try:
            stores.append(open_run(directory))
        except ValueError as error:
            raise BadFlagError(str(error)) from error
        _expect_records(stores[-1])
    return stores


def _expect_records(store: RunStore) -> None:
    expected = f"expected records of harness.run or {_TUNE} in {store.directory}"
    records = store.records()
    if not records:
        raise BadFlagError(f"{expected}, got none")
    for record in records:
        if missing := [name for name in _NEEDED if name not in record]:
            raise BadFlagError(f"{expected}, got one without {', '.join(missing)}")


def _output_dir(asked: str | None, directories: Sequence[Path]) -> Path:
    if asked is not None:
        return Path(asked)
    if len(directories) == 1:
        return directories[0]
    return Path("results") / f"{datetime.now():%Y%m%d-%H%M%S}-merged"


def _write(stores: Sequence[RunStore], output_dir: Path) -> list[Path]:
    """Returns what was written, for people to open."""
    if len(stores) > 1:
        names = names_apart([store.directory for store in stores])
        runs = [
            named(name, store.command, store.records())
            for name, store in zip(names, stores, strict=True)
        ]
        return [write_merged_report(runs, output_dir)]
    (store,) = stores
    paths = [write_report(store.records(), output_dir, store.command)]
    if _TUNE in store.command.split():
        from harness.report.tune import write_tune  # matplotlib is slow to load

        paths.append(write_tune(store.records(), output_dir, store.command))
    return paths


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
