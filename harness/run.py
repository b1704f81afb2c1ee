"""Measures the standard and the chunked loss in PyTorch and JAX, and draws the result.

    python -m harness.run                       both frameworks, the preset for this machine
    python -m harness.run --framework=jax --preset=gpt2
    python -m harness.run --variants=all        with both strategies and other people's losses
    python -m harness.run --list                what there is
    python -m harness.run --mode=anatomy        what is alive at the peak, and when
    python -m harness.run --mode=breaking_point --axis=vocab_size --memory_limit_gib=2
    python -m harness.run --dry_run             what would run, and whether it would fit

Exit status: 0 when every case ended in ok, oom or unavailable; 1 when one ended in
mismatch, error or timeout; 2 for unusable flags; 130 after an interrupt.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from absl import flags
from rich.console import Console

from harness.cases import (
    ANATOMY,
    AXES,
    BREAKING_POINT,
    MODES,
    SWEEP,
    Case,
    Measurement,
    make_cases,
)
from harness.dry_run import show_dry_run
from harness.flags import (
    BadFlagError,
    define_shared,
    device_of,
    expect,
    expect_budgets,
    expect_positive,
    frameworks_of,
    inputs_of,
    integers_of,
    measurement_of,
    new_console,
    open_store,
    parse,
    preset_of,
)
from harness.modes import default_limit_gib, shapes_of, variants_of
from harness.plans import budget_bytes
from harness.presets import PRESETS, Preset
from harness.sweep import run_sweep
from harness.variants import EVERY_VARIANT, VARIANTS
from loss_spec import FLOAT_DTYPES

COMMAND = "harness.run"
ALL = "all"


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    define_shared(values)
    variants = "; ".join(f"{name}: {variant.about}" for name, variant in EVERY_VARIANT.items())
    flags.DEFINE_list(
        "variants", list(VARIANTS), f"Variants to measure, or all. {variants}.", flag_values=values
    )
    flags.DEFINE_list(
        "vocab_sizes", None, "Instead of the preset's: 8192,16384.", flag_values=values
    )
    flags.DEFINE_integer("vocab_chunk", None, "Vocabulary rows a chunk.", flag_values=values)
    flags.DEFINE_integer("token_chunk", None, "Tokens a chunk.", flag_values=values)
    flags.DEFINE_float(
        "memory_budget_mib", None, "Workspace that ours may use, in MiB.", flag_values=values
    )
    flags.DEFINE_enum(
        "mode", SWEEP, MODES,
        f"{SWEEP}: times, memory and errors of every shape; {ANATOMY}: what is alive at the peak "
        f"of one shape; {BREAKING_POINT}: the largest size that fits.",
        flag_values=values
    )  # fmt: skip
    flags.DEFINE_enum(
        "axis", None, AXES, f"What {BREAKING_POINT} enlarges: {AXES[0]} by default.",
        flag_values=values
    )  # fmt: skip
    flags.DEFINE_bool(
        "trace", False, "Profile a step of each case, in the framework's own format.",
        flag_values=values
    )  # fmt: skip
    flags.DEFINE_bool("list", False, "List presets and variants, run nothing.", flag_values=values)
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
        if values.list:
            return _list(console)
        cases = _cases(values)
        if values.dry_run:
            return show_dry_run(console, cases)
        store = open_store(values, [case.to_json() for case in cases], COMMAND, arguments)
    except (flags.Error, BadFlagError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    try:
        return run_sweep(cases, store, console)
    finally:
        store.release()


def _cases(values: flags.FlagValues) -> list[Case]:
    mode, axis = values.mode, _axis(values)
    preset = shapes_of(mode, axis, _preset(values))
    expect_positive(values, "vocab_chunk", "token_chunk", "memory_budget_mib")
    cases = make_cases(
        frameworks=frameworks_of(values),
        variants=_variants(values),
        preset=preset,
        **inputs_of(values),
        options=_options(values),
        measurement=_measurement(values, preset),
        mode=mode,
        axis=axis,
    )
    had = f"variants that {values.framework} has (see --list)"
    expect(values, "variants", cases, had)
    expect_budgets(cases, "memory_budget_mib")
    return cases


def _variants(values: flags.FlagValues) -> list[str]:
    unknown = [name for name in values.variants if name not in (*EVERY_VARIANT, ALL)]
    expected = f"{ALL}, or a list of {', '.join(EVERY_VARIANT)}"
    expect(values, "variants", values.variants and not unknown, expected)
    # In the table's order, floor first: what others are divided by runs next to them.
    names = [name for name in EVERY_VARIANT if {name, ALL} & set(values.variants)]
    measured = variants_of(values.mode, names)
    a_loss = f"a variant that is a loss in --mode={values.mode} (floor and stream have only a time)"
    expect(values, "variants", measured, a_loss)
    return measured


def _axis(values: flags.FlagValues) -> str:
    searches = values.mode == BREAKING_POINT
    expect(values, "axis", searches or values.axis is None, f"none but in --mode={BREAKING_POINT}")
    return (values.axis or AXES[0]) if searches else ""


def _measurement(values: flags.FlagValues, preset: Preset) -> Measurement:
    _expect_used(values)
    asked = dataclasses.replace(measurement_of(values, preset), trace=values.trace)
    if asked.memory_limit_gib is not None:
        return asked
    limit_gib = default_limit_gib(values.mode, asked.device)
    return dataclasses.replace(asked, memory_limit_gib=limit_gib)


def _expect_used(values: flags.FlagValues) -> None:
    """Refuses what the mode would ignore."""
    mode = values.mode
    traces = mode != BREAKING_POINT or not values.trace
    expect(values, "trace", traces, f"false in --mode={BREAKING_POINT}")
    for name in ("warmup", "repeats"):
        repeats = mode == SWEEP or values[name].value is None
        expect(values, name, repeats, f"none in --mode={mode}, which repeats no step")
    # On a GPU the limit is on the whole process, whatever it does.
    limits = mode != ANATOMY or device_of(values) == "gpu" or values.memory_limit_gib is None
    expect(values, "memory_limit_gib", limits, f"none in --mode={ANATOMY} on a CPU")


def _options(values: flags.FlagValues) -> dict[str, int]:
    sizes = {name: values[name].value for name in ("vocab_chunk", "token_chunk")}
    if values.memory_budget_mib is not None:
        sizes["memory_budget"] = budget_bytes(values.memory_budget_mib)
    return {name: size for name, size in sizes.items() if size is not None}


def _preset(values: flags.FlagValues) -> Preset:
    preset = preset_of(values)
    sizes = integers_of(values, "vocab_sizes")
    one = values.mode == SWEEP or sizes is None or len(sizes) == 1
    expect(values, "vocab_sizes", one, f"one size in --mode={values.mode}")
    return preset if sizes is None else dataclasses.replace(preset, vocab_sizes=sizes)


def _list(console: Console) -> int:
    console.print("[bold]Presets[/bold] (--preset)")
    for name, preset in PRESETS.items():
        sizes = ", ".join(f"{size:,}" for size in preset.vocab_sizes)
        console.print(
            f"  {name:<10} {preset.batch_size} x {preset.seq_len} tokens, "
            f"D={preset.hidden_dim}, V={sizes}, {preset.dtype}: {preset.about}",
            soft_wrap=True,
        )
    console.print(f"[bold]Variants[/bold] (--variants; {', '.join(VARIANTS)} unless asked for)")
    for name, variant in EVERY_VARIANT.items():
        about = f"{variant.about}; needs {variant.needs}" if variant.needs else variant.about
        console.print(f"  {name:<28} {', '.join(variant.targets)}: {about}", soft_wrap=True)
    console.print(f"[bold]Data types[/bold] (--dtype) {', '.join(FLOAT_DTYPES)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
