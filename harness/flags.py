"""The flags that the commands share: how they are defined, checked and read.

Each command has a `FlagValues` of its own, so that importing one defines nothing globally.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console

from harness.cases import Case, Measurement
from harness.environment import has_nvidia_gpu
from harness.plans import refused_budget
from harness.presets import PRESETS, Preset
from harness.resume import what_differs
from harness.store import HeldError, RunStore, new_run, newest_run, runs_in
from loss_spec import FLOAT_DTYPES

FRAMEWORKS = ("torch", "jax")
DEVICES = ("auto", "cpu", "gpu")


class BadFlagError(Exception):
    """A flag whose value cannot work; the message names it and what would."""


def define_shared(values: flags.FlagValues) -> None:
    """Shapes, how they are measured, and where the results go."""
    presets = "; ".join(f"{name}: {preset.about}" for name, preset in PRESETS.items())
    flags.DEFINE_enum(
        "framework", "all", ["jax", "torch", "all"], "Framework to measure.", flag_values=values
    )
    flags.DEFINE_enum(
        "preset", None, list(PRESETS), f"Shapes. Default: seed with a GPU, else cpu. {presets}.",
        flag_values=values
    )  # fmt: skip
    flags.DEFINE_integer("batch_size", None, "Instead of the preset's.", flag_values=values)
    flags.DEFINE_integer("seq_len", None, "Instead of the preset's.", flag_values=values)
    flags.DEFINE_integer("hidden_dim", None, "Instead of the preset's.", flag_values=values)
    flags.DEFINE_enum("dtype", None, FLOAT_DTYPES, "Instead of the preset's.", flag_values=values)
    flags.DEFINE_float("ignored_fraction", 0.0, "Labels that are ignore_index.", flag_values=values)
    flags.DEFINE_float(
        "memory_limit_gib",
        None,
        "Memory for a step, inputs included; on a CPU all counts that the process takes during it, "
        "the scratch of the matmul libraries included.",
        flag_values=values,
    )
    flags.DEFINE_integer("warmup", None, "Steps before the timed ones.", flag_values=values)
    flags.DEFINE_integer("repeats", None, "Timed steps.", flag_values=values)
    flags.DEFINE_float("timeout_s", 600.0, "Longest time for one case.", flag_values=values)
    flags.DEFINE_integer("seed", 0, "Of the inputs.", flag_values=values)
    flags.DEFINE_enum(
        "device", "auto", DEVICES, "auto takes a GPU if there is one.", flag_values=values
    )
    flags.DEFINE_string(
        "output_dir", "results", "Where the folder of the run is made.", flag_values=values
    )
    flags.DEFINE_bool(
        "resume",
        False,
        "Go on with the newest unfinished run of the same cases.",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "dry_run",
        False,
        "Say what would run, what it needs and whether it fits; run nothing.",
        flag_values=values,
    )
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)


def new_console() -> Console:
    # Where nobody's terminal says how wide it is, the closing table must still fit.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def parse(values: flags.FlagValues, command: str, arguments: Sequence[str]) -> None:
    """Raises `flags.Error` or `BadFlagError` for what is no flag or has no such value."""
    rest = values([command, *arguments])[1:]
    if rest and not values.help:
        raise BadFlagError(f"unexpected argument {rest[0]!r}: flags are written --name=value")


def expect(values: flags.FlagValues, name: str, holds: object, expected: str) -> None:
    if not holds:
        got = values[name].value
        shown = ",".join(got) if isinstance(got, list) else got
        raise BadFlagError(f"--{name}: expected {expected}, got {shown}")


def expect_positive(values: flags.FlagValues, *names: str) -> None:
    for name in names:
        value = values[name].value
        expect(values, name, value is None or 0 < value < math.inf, "a finite number > 0")


def expect_budgets(cases: Sequence[Case], name: str) -> None:
    """Refuses a memory budget that a loss would refuse, with the smallest that would do."""
    for case in cases:
        if (reason := refused_budget(case)) is not None:
            raise BadFlagError(f"--{name}: {reason}")


def frameworks_of(values: flags.FlagValues) -> tuple[str, ...]:
    return FRAMEWORKS if values.framework == "all" else (values.framework,)


def preset_of(values: flags.FlagValues) -> Preset:
    """The preset with what the command line puts in place of its own."""
    name = values.preset or ("seed" if device_of(values) == "gpu" else "cpu")
    changes: dict[str, Any] = {}
    for field in ("batch_size", "seq_len", "hidden_dim", "repeats", "warmup"):
        if (value := values[field].value) is not None:
            least = 0 if field == "warmup" else 1
            expect(values, field, value >= least, f"an integer >= {least}")
            changes[field] = value
    if values.dtype is not None:
        changes["dtype"] = values.dtype
    return dataclasses.replace(PRESETS[name], **changes)


def integers_of(values: flags.FlagValues, name: str) -> tuple[int, ...] | None:
    """A list of sizes, each once; None where the flag was not given."""
    sizes = values[name].value
    if sizes is None:
        return None
    good = sizes and all(size.strip().isdecimal() and int(size) > 0 for size in sizes)
    expect(values, name, good, "integers > 0, as in 8192,16384")
    return tuple(dict.fromkeys(int(size) for size in sizes))


def measurement_of(values: flags.FlagValues, preset: Preset) -> Measurement:
    expect_positive(values, "memory_limit_gib", "timeout_s")
    return Measurement(
        warmup=preset.warmup,
        repeats=preset.repeats,
        timeout_s=values.timeout_s,
        device=device_of(values),
        memory_limit_gib=values.memory_limit_gib,
    )


def inputs_of(values: flags.FlagValues) -> dict[str, Any]:
    """What draws the arrays of a shape, beside its sizes."""
    fraction, seed = float(values.ignored_fraction), int(values.seed)
    expect(values, "ignored_fraction", 0.0 <= fraction <= 1.0, "a number from 0 to 1")
    expect(values, "seed", seed >= 0, "an integer >= 0")
    return {"ignored_fraction": fraction, "seed": seed}


def device_of(values: flags.FlagValues) -> str:
    """Decided once: workers that each chose would compare a GPU with a CPU."""
    if values.device == "auto":
        return "gpu" if has_nvidia_gpu() else "cpu"
    return values.device


def open_store(
    values: flags.FlagValues,
    asked: Sequence[dict[str, Any]],
    command: str,
    arguments: Sequence[str],
) -> RunStore:
    """A new folder for a run of the cases that are asked for, or that of the one to go on with."""
    output_dir = Path(values.output_dir)
    try:
        if not values.resume:
            return new_run(output_dir, asked, shlex.join(["python", "-m", command, *arguments]))
        store = newest_run(output_dir, asked)
        if store is None:
            raise BadFlagError(
                f"--resume: expected a run of the same cases under {output_dir}, found "
                f"{_nearest(output_dir, asked)}; repeat the flags of the run to go on with"
            )
        store.hold()
        return store
    except HeldError as error:
        raise BadFlagError(
            f"--resume: expected a run that nobody is at work on: {error}"
        ) from error
    except OSError as error:
        raise BadFlagError(
            f"--output_dir: expected a directory that can be written, got {output_dir} "
            f"({error.strerror or error})"
        ) from error


def _nearest(output_dir: Path, asked: Sequence[dict[str, Any]]) -> str:
    """The newest run, if it is the same but for how its cases are measured or how many."""
    newest = next(runs_in(output_dir), None)
    differs = "" if newest is None else what_differs(asked, newest.cases)
    return f"one with {differs}" if differs else "none"
