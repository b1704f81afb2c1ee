"""Measures the standard and the chunked loss in PyTorch and JAX, and draws the result.

    python -m harness.run                       both frameworks, the preset for this machine
    python -m harness.run --framework=jax --preset=gpt2
    python -m harness.run --list                what there is
    python -m harness.run --dry_run             what would run

Exit status: 0 when every case ended in ok, oom or unavailable; 1 when one ended in
mismatch, error or timeout; 2 for unusable flags; 130 after an interrupt.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console

from harness.cases import Case, Measurement, make_cases
from harness.environment import has_nvidia_gpu
from harness.presets import PRESETS, Preset
from harness.store import RunStore, new_run, newest_run
from harness.sweep import run_sweep
from harness.variants import VARIANTS
from loss_spec import FLOAT_DTYPES

FRAMEWORKS = ("torch", "jax")
DEVICES = ("auto", "cpu", "gpu")


class BadFlagError(Exception):
    """A flag whose value cannot work; the message names it and what would."""


def define_flags() -> flags.FlagValues:
    """The flags, on a value of their own: importing this module defines nothing globally."""
    values = flags.FlagValues()
    presets = "; ".join(f"{name}: {preset.about}" for name, preset in PRESETS.items())
    variants = "; ".join(f"{name}: {variant.about}" for name, variant in VARIANTS.items())
    flags.DEFINE_enum(
        "framework", "all", ["jax", "torch", "all"], "Framework to measure.", flag_values=values
    )
    flags.DEFINE_enum(
        "preset", None, list(PRESETS), f"Shapes. Default: seed with a GPU, else cpu. {presets}.",
        flag_values=values
    )  # fmt: skip
    flags.DEFINE_list(
        "variants", list(VARIANTS), f"Variants to measure. {variants}.", flag_values=values
    )
    flags.DEFINE_integer("batch_size", None, "Instead of the preset's.", flag_values=values)
    flags.DEFINE_integer("seq_len", None, "Instead of the preset's.", flag_values=values)
    flags.DEFINE_integer("hidden_dim", None, "Instead of the preset's.", flag_values=values)
    flags.DEFINE_list(
        "vocab_sizes", None, "Instead of the preset's: 8192,16384.", flag_values=values
    )
    flags.DEFINE_enum("dtype", None, FLOAT_DTYPES, "Instead of the preset's.", flag_values=values)
    flags.DEFINE_integer("vocab_chunk", None, "Vocabulary rows a chunk.", flag_values=values)
    flags.DEFINE_integer("token_chunk", None, "Tokens a chunk.", flag_values=values)
    flags.DEFINE_float("ignored_fraction", 0.0, "Labels that are ignore_index.", flag_values=values)
    flags.DEFINE_float(
        "memory_limit_gib",
        None,
        "Memory for the arrays of a step, inputs included.",
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
        "resume", False, "Go on with the newest run of the same cases.", flag_values=values
    )
    flags.DEFINE_bool("list", False, "List presets and variants, run nothing.", flag_values=values)
    flags.DEFINE_bool(
        "dry_run", False, "List the cases that would run, run nothing.", flag_values=values
    )
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    return values


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    # Where nobody's terminal says how wide it is, the closing table must still fit.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    values = define_flags()
    try:
        rest = values(["harness.run", *arguments])[1:]
        if values.help:
            console.print(f"{__doc__}\n{values.get_help()}", markup=False)
            return 0
        if rest:
            raise BadFlagError(f"unexpected argument {rest[0]!r}: flags are written --name=value")
        if values.list:
            return _list(console)
        cases = _cases(values)
        if values.dry_run:
            return _dry_run(console, cases)
        command = shlex.join(["python", "-m", "harness.run", *arguments])
        store = _open_store(values, cases, command)
    except (flags.Error, BadFlagError) as error:
        print(f"harness.run: {error}", file=sys.stderr)
        return 2
    return run_sweep(cases, store, console)


def _cases(values: flags.FlagValues) -> list[Case]:
    preset = _preset(values)
    for name in ("vocab_chunk", "token_chunk", "memory_limit_gib", "timeout_s"):
        value = values[name].value
        _expect(values, name, value is None or 0 < value < math.inf, "a finite number > 0")
    fraction, seed = float(values.ignored_fraction), int(values.seed)
    _expect(values, "ignored_fraction", 0.0 <= fraction <= 1.0, "a number from 0 to 1")
    _expect(values, "seed", seed >= 0, "an integer >= 0")
    unknown = [name for name in values.variants if name not in VARIANTS]
    expected = f"a list of {', '.join(VARIANTS)}"
    _expect(values, "variants", values.variants and not unknown, expected)
    # In the table's order, floor first: what others are divided by runs next to them.
    chosen = [name for name in VARIANTS if name in values.variants]
    sizes = {name: values[name].value for name in ("vocab_chunk", "token_chunk")}
    return make_cases(
        frameworks=FRAMEWORKS if values.framework == "all" else (values.framework,),
        variants=chosen,
        preset=preset,
        ignored_fraction=fraction,
        seed=seed,
        options={name: size for name, size in sizes.items() if size is not None},
        measurement=Measurement(
            warmup=preset.warmup,
            repeats=preset.repeats,
            timeout_s=values.timeout_s,
            device=_device(values),
            memory_limit_gib=values.memory_limit_gib,
        ),
    )


def _preset(values: flags.FlagValues) -> Preset:
    """The preset with what the command line puts in place of its own."""
    name = values.preset or ("seed" if _device(values) == "gpu" else "cpu")
    changes = {}
    for field in ("batch_size", "seq_len", "hidden_dim", "repeats", "warmup"):
        if (value := values[field].value) is not None:
            least = 0 if field == "warmup" else 1
            _expect(values, field, value >= least, f"an integer >= {least}")
            changes[field] = value
    if values.vocab_sizes is not None:
        sizes = values.vocab_sizes
        good = sizes and all(size.strip().isdecimal() and int(size) > 0 for size in sizes)
        _expect(values, "vocab_sizes", good, "integers > 0, as in 8192,16384")
        changes["vocab_sizes"] = tuple(dict.fromkeys(int(size) for size in sizes))
    if values.dtype is not None:
        changes["dtype"] = values.dtype
    return dataclasses.replace(PRESETS[name], **changes)


def _device(values: flags.FlagValues) -> str:
    """Decided once: workers that each chose would compare a GPU with a CPU."""
    if values.device == "auto":
        return "gpu" if has_nvidia_gpu() else "cpu"
    return values.device


def _expect(values: flags.FlagValues, name: str, holds: object, expected: str) -> None:
    if not holds:
        got = values[name].value
        shown = ",".join(got) if isinstance(got, list) else got
        raise BadFlagError(f"--{name}: expected {expected}, got {shown}")


def _open_store(values: flags.FlagValues, cases: list[Case], command: str) -> RunStore:
    output_dir = Path(values.output_dir)
    asked = [case.to_json() for case in cases]
    if values.resume:
        store = newest_run(output_dir, asked) if output_dir.is_dir() else None
        if store is None:
            raise BadFlagError(
                f"--resume: expected a run of the same cases under {output_dir}, found none; "
                "repeat the flags of the run to go on with"
            )
        return store
    try:
        return new_run(output_dir, asked, command)
    except OSError as error:
        raise BadFlagError(
            f"--output_dir: expected a directory that can be written, got {output_dir} "
            f"({error.strerror or error})"
        ) from error


def _list(console: Console) -> int:
    console.print("[bold]Presets[/bold] (--preset)")
    for name, preset in PRESETS.items():
        sizes = ", ".join(f"{size:,}" for size in preset.vocab_sizes)
        console.print(
            f"  {name:<10} {preset.batch_size} x {preset.seq_len} tokens, "
            f"D={preset.hidden_dim}, V={sizes}, {preset.dtype}: {preset.about}"
        )
    console.print("[bold]Variants[/bold] (--variants)")
    for name, variant in VARIANTS.items():
        console.print(f"  {name:<10} {', '.join(variant.targets)}: {variant.about}")
    console.print(f"[bold]Data types[/bold] (--dtype) {', '.join(FLOAT_DTYPES)}")
    return 0


def _dry_run(console: Console, cases: list[Case]) -> int:
    for case in cases:
        shape = case.shape
        console.print(
            f"{case.case_id}  gradients {shape.gradients_bytes / 2**20:,.0f} MiB, "
            f"[N, V] logits {shape.logits_bytes / 2**20:,.0f} MiB"
        )
    console.print(f"{len(cases)} cases; nothing was run")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
