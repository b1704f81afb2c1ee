"""Measures one shape with tiles of many sizes and both strategies: what time costs in memory.

    python -m harness.tune                      both frameworks, the preset for this machine
    python -m harness.tune --framework=torch --preset=gpt2
    python -m harness.tune --vocab_size=32768 --strategies=one_pass --token_chunks=64,256
    python -m harness.tune --dry_run            what would run

Prints the frontier of step time against workspace, and how far from it the plan's own
choices lie. The standard loss, the floor and the stream are measured first and once more at
the end: what differs is the machine's drift.

Exit status: 0 when every case ended in ok, oom or unavailable; 1 when one ended in
mismatch, error or timeout; 2 for unusable flags; 130 after an interrupt.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from rich.console import Console

from harness.cases import Case, Shape, make_case
from harness.dry_run import show_dry_run
from harness.flags import (
    BadFlagError,
    define_shared,
    expect,
    expect_budgets,
    frameworks_of,
    inputs_of,
    integers_of,
    measurement_of,
    new_console,
    open_store,
    parse,
    preset_of,
)
from harness.grid import GridPoint, default_budgets, grid
from harness.plans import budget_bytes
from harness.store import RunStore
from harness.sweep import run_sweep
from harness.variants import STRATEGIES

COMMAND = "harness.tune"
YARDSTICKS = ("floor", "stream", "standard")
PLANNED = "chunked"


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    define_shared(values)
    flags.DEFINE_integer(
        "vocab_size", None, "Instead of the preset's largest vocabulary.", flag_values=values
    )
    flags.DEFINE_list("strategies", list(STRATEGIES), "Strategies to measure.", flag_values=values)
    for name, of in (("token_chunks", "tokens"), ("vocab_chunks", "vocabulary rows")):
        flags.DEFINE_list(
            name, None, f"Tile sizes in {of}. Default: chosen from the shape.", flag_values=values
        )
    flags.DEFINE_list(
        "memory_budgets_mib",
        None,
        "Budgets with which to measure the plan's choice. Default: shares of the logits.",
        flag_values=values,
    )
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
        cases = _cases(values, functools.partial(_say_left_out, console))
        if values.dry_run:
            return show_dry_run(console, cases)
        store = open_store(values, [case.to_json() for case in cases], COMMAND, arguments)
    except (flags.Error, BadFlagError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    try:
        return run_sweep(cases, store, console, _show)
    finally:
        store.release()


def _cases(
    values: flags.FlagValues, left_out: Callable[[str, Sequence[GridPoint]], None]
) -> list[Case]:
    preset = preset_of(values)
    measurement = measurement_of(values, preset)
    shape = Shape(
        batch_size=preset.batch_size,
        seq_len=preset.seq_len,
        hidden_dim=preset.hidden_dim,
        vocab_size=_vocab_size(values, max(preset.vocab_sizes)),
        dtype=preset.dtype,
        **inputs_of(values),
    )
    good = values.strategies and set(values.strategies) <= set(STRATEGIES)
    expect(values, "strategies", good, f"a list of {', '.join(STRATEGIES)}")
    asked_budgets = _budgets(values)
    cases: list[Case] = []
    for framework in frameworks_of(values):
        kept, absurd = grid(
            framework,
            measurement.device,
            shape,
            strategies=[name for name in STRATEGIES if name in values.strategies],
            token_chunks=integers_of(values, "token_chunks"),
            vocab_chunks=integers_of(values, "vocab_chunks"),
        )
        if absurd:
            left_out(framework, absurd)
        # Not by size, or the machine's drift would look like an effect of it.
        random.Random(shape.seed).shuffle(kept)
        budgets = asked_budgets
        if budgets is None:
            budgets = default_budgets(framework, measurement.device, shape)
        of = functools.partial(make_case, framework, shape=shape, measurement=measurement)
        cases += [
            *(of(name, options={}) for name in (*YARDSTICKS, PLANNED)),
            *(of(PLANNED, options={"memory_budget": budget}) for budget in budgets),
            *(of(point.strategy, options=_tile(point)) for point in kept),
            *(of(name, options={}, is_repetition=True) for name in YARDSTICKS),
        ]
    expect_budgets(cases, "memory_budgets_mib")
    return cases


def _vocab_size(values: flags.FlagValues, default: int) -> int:
    size = values.vocab_size
    expect(values, "vocab_size", size is None or size > 0, "an integer > 0")
    return default if size is None else size


def _budgets(values: flags.FlagValues) -> list[int] | None:
    if values.memory_budgets_mib is None:
        return None
    try:
        sizes = [float(size) for size in values.memory_budgets_mib]
    except ValueError:
        sizes = []
    good = sizes and all(0 < size < float("inf") for size in sizes)
    expect(values, "memory_budgets_mib", good, "numbers > 0, as in 8,32.5")
    return list(dict.fromkeys(map(budget_bytes, sizes)))


def _tile(point: GridPoint) -> dict[str, int]:
    return {"token_chunk": point.token_chunk, "vocab_chunk": point.vocab_chunk}


def _say_left_out(console: Console, framework: str, points: Sequence[GridPoint]) -> None:
    tiles = ", ".join(f"{p.strategy} {p.token_chunk} x {p.vocab_chunk}" for p in points)
    console.print(f"{framework}: left out, as they need more than the full logits: {tiles}")


def _show(results: list[dict[str, Any]], store: RunStore, console: Console) -> None:
    # matplotlib is slow to load: not before it is wanted
    from harness.report.tune import frontier_tables, write_tune

    report = write_tune(results, store.directory, store.command)
    for table in frontier_tables(results):
        console.print(table)
    console.print(f"records   {store.directory / 'records.jsonl'}", soft_wrap=True)
    console.print(f"report    {report}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
