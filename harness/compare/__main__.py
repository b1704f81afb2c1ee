"""Says what got slower or larger beyond the noise between two runs, for use in a CI.

    python -m harness.compare OLD NEW                        the folders of two runs
    python -m harness.compare OLD NEW --threshold_percent=10

Measure both on the same idle machine, with the same flags and at least five --repeats.
Cases are matched by name and device. A case is slower if its steps are, by more than the
threshold and by more than the floor's; it is larger if its workspace or peak grew, by the
same probe; it broke if it was ok. Cases that only one run has are listed. One that only OLD
has is missing, as it may have got worse unseen, unless it could not run there either.

Exit status: 0 when nothing got worse, 1 when something did or is missing (--allow_missing
accepts that), 2 for unusable arguments or runs that have no case in common.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from harness.compare.environments import differences
from harness.compare.judgement import judge
from harness.compare.matching import match
from harness.compare.show import show_environments, show_machine, show_verdicts
from harness.flags import BadFlagError, expect_positive, new_console
from harness.store import RunStore, open_run

COMMAND = "harness.compare"


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # or flags that follow OLD and NEW would not be read as flags
    flags.DEFINE_float(
        "threshold_percent", 5.0, "Slower by this much counts as no change.", flag_values=values
    )
    flags.DEFINE_bool(
        "allow_missing", False, "Cases that NEW lacks are no failure.", flag_values=values
    )
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    return values


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    console = new_console()
    values = define_flags()
    try:
        folders = values([COMMAND, *arguments])[1:]
        if values.help:
            console.print(f"{__doc__}\n{values.get_help()}", markup=False)
            return 0
        expect_positive(values, "threshold_percent")
        old, new = _open_runs(folders)
        matched = match(old.records(), new.records())
        if not matched.pairs:
            raise BadFlagError(
                f"OLD, NEW: expected runs that have a case in common, got {folders[0]} with "
                f"{len(matched.only_old)} cases and {folders[1]} with {len(matched.only_new)}"
            )
    except (flags.Error, BadFlagError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    pairs = matched.pairs
    show_environments(
        console, differences([pair.old for pair in pairs], [pair.new for pair in pairs])
    )
    show_machine(console, matched)
    verdicts = [judge(pair, values.threshold_percent) for pair in pairs]
    show_verdicts(console, verdicts, matched)
    got_worse = any(change.is_regression for each in verdicts for change in each.changes)
    return int(got_worse or bool(matched.missing and not values.allow_missing))


def _open_runs(folders: Sequence[str]) -> tuple[RunStore, RunStore]:
    if len(folders) != 2:
        raise BadFlagError(f"expected two folders of runs, OLD NEW, got {len(folders)} arguments")
    old, new = (
        _open_run(name, Path(folder)) for name, folder in zip(("OLD", "NEW"), folders, strict=True)
    )
    return old, new


def _open_run(name: str, directory: Path) -> RunStore:
    try:
        store = open_run(directory)
    except ValueError as error:
        raise BadFlagError(f"{name}: {error}") from error
    if any(not {"variant", "batch_size"} <= record.keys() for record in store.records()):
        raise BadFlagError(
            f"{name}: expected records of harness.run or harness.tune, got those of another "
            f"command in {directory}"
        )
    return store


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
