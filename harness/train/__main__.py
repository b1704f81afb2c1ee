"""Trains the same small language model in both frameworks, with the logits and without.

    python -m harness.train
    python -m harness.train --framework=jax --steps=50
    python -m harness.train --resume              go on with a run that was interrupted

Runs examples/train_torch.py and examples/train_flax.py with either loss, one after the other,
and draws their training curves over each other, how far they are apart at each step, and the
peak memory of a whole training step. Needs the dependencies of the examples
(requirements/examples.txt).

Exit status: 0 when every run ended, or has no framework here, and the curves lie on each
other (1e-4 within a framework, 1e-3 between them), 1 when not; 2 for unusable flags; 130
after an interrupt. Times and memory are shown and not judged.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from absl import flags
from rich.console import Console

from harness.flags import (
    BadFlagError,
    expect,
    expect_positive,
    frameworks_of,
    new_console,
    open_store,
    parse,
)
from harness.interrupts import terminated_is_interrupted
from harness.store import NotWrittenError, RunStore
from harness.train.agreement import comparisons
from harness.train.runs import LOSSES, OK, UNAVAILABLE, Combination, train

COMMAND = "harness.train"
INTERRUPTED = 130
_SIZES = {
    "steps": "Optimizer steps.",
    "batch_size": "Sequences in a batch.",
    "length": "Tokens in a sequence.",
    "vocab_size": "Entries of the tokenizer.",
    "dim": "Width of the model.",
    "layers": "Blocks of the model.",
}


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_enum(
        "framework", "all", ["jax", "torch", "all"], "Framework to train in.", flag_values=values
    )
    flags.DEFINE_list("losses", list(LOSSES), "Losses to train with.", flag_values=values)
    for name, about in _SIZES.items():
        flags.DEFINE_integer(
            name, None, f"{about} Default: that of the examples.", flag_values=values
        )
    flags.DEFINE_string(
        "output_dir", "results/train", "Where the folder of the run is made.", flag_values=values
    )
    flags.DEFINE_bool(
        "resume", False, "Go on with the newest unfinished run of the same cases.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    return values


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    console = new_console()
    values = define_flags()
    try:
        parse(values, COMMAND, arguments)
        if values.help:
            console.print(f"{__doc__}\n{values.get_help()}", markup=False)
            return 0
        if importlib.util.find_spec("examples") is None:
            raise BadFlagError(
                "expected the examples, which are part of a checkout: start it there"
            )
        combinations, sizes = _combinations(values), _sizes(values)
        cases = [each.to_json(sizes) for each in combinations]
        store = open_store(values, cases, COMMAND, arguments)
    except (flags.Error, BadFlagError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    try:
        with terminated_is_interrupted():
            _run(combinations, sizes, store, console)
    except KeyboardInterrupt:
        console.print(f"interrupted; go on with --resume: {store.directory}", soft_wrap=True)
        return INTERRUPTED
    except NotWrittenError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1
    return _show(store, console)


def _combinations(values: flags.FlagValues) -> list[Combination]:
    good = values.losses and set(values.losses) <= set(LOSSES)
    expect(values, "losses", good, f"a list of {', '.join(LOSSES)}")
    return [
        Combination(framework, loss)
        for framework in frameworks_of(values)
        for loss in LOSSES
        if loss in values.losses
    ]


def _sizes(values: flags.FlagValues) -> dict[str, int]:
    expect_positive(values, *_SIZES)
    given = {name: values[name].value for name in _SIZES}
    return {name: size for name, size in given.items() if size is not None}


def _run(
    combinations: Sequence[Combination], sizes: dict[str, int], store: RunStore, console: Console
) -> None:
    # One whose memory is missing measures it from its last checkpoint.
    finished = {
        record["case_id"]
        for record in store.records()
        if record["status"] == OK and record["memory"]
    }
    for combination in combinations:
        if combination.name in finished:
            continue
        console.rule(combination.name, align="left")
        store.append(train(combination, sizes, store.directory))


def _show(store: RunStore, console: Console) -> int:
    from harness.train.report import notes, tables, write_report  # matplotlib is slow to load

    newest = {record["case_id"]: record for record in store.records()}  # the last try counts
    records = [newest[case["case_id"]] for case in store.cases]
    report = write_report(records, store.directory, store.command)
    for table in tables(records):
        console.print(table)
    for note in notes(records):
        console.print(note, markup=False, soft_wrap=True)
    console.print(f"\nreport    {report}", soft_wrap=True)
    holds = all(each.holds for each in comparisons(records))
    return 0 if holds and all(record["status"] in (OK, UNAVAILABLE) for record in records) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
