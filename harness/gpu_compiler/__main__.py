"""The memory that XLA's compiler assigns to the losses on an H100, which need not be here.

    python -m harness.gpu_compiler
    python -m harness.gpu_compiler --presets=gemma2_2b --memory_budgets_mib=150,300

Compiles loss and gradients of the standard and of our losses for an H100, and prints what each
needs beyond its inputs and gradients, beside what our plan says beforehand. Nothing runs, so
there are no times. Needs JAX, jax-cuda12-pjrt and jax-cuda12-plugin (or 13), and no CUDA.

Exit status: 0; 1 when ours needs more than 1.1 times what its plan says; 2 for unusable flags.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from harness.cases import Case, Measurement, Shape, make_case
from harness.environment import describe_host
from harness.flags import BadFlagError, expect, expect_budgets, new_console, parse
from harness.plans import budget_bytes, plan_of
from harness.presets import PRESETS
from harness.report.formats import MISSING, fraction, mebibytes, ratio
from harness.report.markdown import table_parts
from harness.report.rich_table import rich_table
from harness.report.section import TableText
from harness.store import RunStore, new_run
from harness.targets import load_target
from loss_spec import FLOAT_DTYPES

COMMAND = "harness.gpu_compiler"
TITLE = "What XLA assigns on an H100"
VARIANTS = ("standard", "optax", "chunked", "two_pass", "one_pass")
READING = (
    "Workspace is what a step of loss and gradients needs beyond its inputs and the gradients "
    "that it returns, by XLA's buffer assignment; predicted is what our plan says beforehand. "
    "Compiled for an NVIDIA H100 without one: nothing ran."
)
_ALLOWED = 1.1


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_list(
        "presets", ["gemma2_2b", "llama3_8b", "long_batch", "seed"], "Heads to compile, each with "
        "its largest vocabulary.", flag_values=values
    )  # fmt: skip
    flags.DEFINE_enum("dtype", "bfloat16", FLOAT_DTYPES, "Of the inputs.", flag_values=values)
    flags.DEFINE_list("variants", list(VARIANTS), "Losses to compile.", flag_values=values)
    flags.DEFINE_list(
        "memory_budgets_mib", ["300"], "Budgets for the plan's choice.", flag_values=values
    )
    flags.DEFINE_string(
        "output_dir", "results", "Where the folder of the run is made.", flag_values=values
    )
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
        cases = list(_cases(values))
        os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX is loaded, and looks for a GPU
        compiler = importlib.import_module("harness.gpu_compiler.h100")
        if not compiler.is_here():
            raise BadFlagError("expected XLA's compiler for GPUs: .ci/gpu_compiler installs it")
        command = shlex.join(["python", "-m", COMMAND, *arguments])
        store = new_run(Path(values.output_dir), [case.to_json() for case in cases], command)
    except (flags.Error, BadFlagError, OSError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    host = describe_host()
    with compiler.traced_for_a_gpu():
        for case in cases:
            with console.status(case.case_id):
                store.append(_record(case, compiler, host))
    return _show(store, console)


def _cases(values: flags.FlagValues) -> Iterator[Case]:
    known = values.presets and set(values.presets) <= set(PRESETS)
    expect(values, "presets", known, f"a list of {', '.join(PRESETS)}")
    known = values.variants and set(values.variants) <= set(VARIANTS)
    expect(values, "variants", known, f"a list of {', '.join(VARIANTS)}")
    budgets = list(_budgets(values))
    measurement = Measurement(
        warmup=0, repeats=1, timeout_s=math.inf, device="gpu", memory_limit_gib=None
    )
    for name in values.presets:
        preset = PRESETS[name]
        shape = Shape(
            batch_size=preset.batch_size,
            seq_len=preset.seq_len,
            hidden_dim=preset.hidden_dim,
            vocab_size=max(preset.vocab_sizes),
            dtype=values.dtype,
            ignored_fraction=0.0,
            seed=0,
        )
        for variant in (each for each in VARIANTS if each in values.variants):
            yield make_case("jax", variant, shape, measurement, {})
            if variant == "chunked":
                within = [
                    make_case("jax", variant, shape, measurement, {"memory_budget": budget})
                    for budget in budgets
                ]
                expect_budgets(within, "memory_budgets_mib")
                yield from within


def _budgets(values: flags.FlagValues) -> Iterator[int]:
    for text in values.memory_budgets_mib:
        good = text.replace(".", "", 1).isdecimal() and float(text) > 0
        expect(values, "memory_budgets_mib", good, "numbers > 0, as in 150,300")
        yield budget_bytes(float(text))


def _record(case: Case, compiler: Any, host: dict[str, Any]) -> dict[str, Any]:
    plan = None
    if case.plan_target is not None:
        plan = dataclasses.asdict(plan_of("jax", "gpu", case.shape, case.options))
    sizes = compiler.assigned_bytes(load_target(case.target), case.shape, case.options)
    return {**case.to_json(), "plan": plan, **sizes, "environment": host}


def _show(store: RunStore, console: Any) -> int:
    records = store.records()
    table = _table(records)
    console.print(rich_table(table, TITLE))
    console.print(READING, soft_wrap=True)
    path = store.directory / "gpu_compiler.md"
    versions = ", ".join(f"{name} {at}" for name, at in records[0]["compiler"].items())
    parts = [f"# {TITLE}", f"```\n{store.command}\n```", *table_parts(table), READING, versions]
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    console.print(f"\n{path}", soft_wrap=True)
    return 1 if any((_over_plan(record) or 0) > _ALLOWED for record in records) else 0


def _over_plan(record: dict[str, Any]) -> float | None:
    plan = record["plan"]
    return record["workspace_bytes"] / plan["workspace_bytes"] if plan else None


def _table(records: Sequence[dict[str, Any]]) -> TableText:
    shapes = [tuple(record["shape"].values()) for record in records]
    return TableText(
        title="",
        headers=(
            "N x D x V", "dtype", "loss", "tile", "workspace MiB", "of the standard",
            "predicted MiB", "actual / predicted",
        ),
        numeric=(False, False, False, False, True, True, True, True),
        rows=tuple(_row(record, records) for record in records),
        starts_group=tuple(
            index == 0 or shapes[index - 1] != shape for index, shape in enumerate(shapes)
        ),
    )  # fmt: skip


def _row(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    shape, plan, budget = record["shape"], record["plan"], record["options"].get("memory_budget")
    within = f" within {budget / 2**20:,g} MiB" if budget else ""
    standard = next(
        (
            each["workspace_bytes"]
            for each in records
            if each["shape"] == shape and each["variant"] == "standard"
        ),
        None,
    )
    tile = f"{plan['strategy']} {plan['token_chunk']} x {plan['vocab_chunk']}" if plan else MISSING
    return (
        f"{shape['batch_size'] * shape['seq_len']:,} x {shape['hidden_dim']:,} x "
        f"{shape['vocab_size']:,}",
        shape["dtype"],
        f"{record['variant']}{within}",
        tile,
        mebibytes(record["workspace_bytes"]),
        fraction(record["workspace_bytes"] / standard if standard else None),
        mebibytes(plan["workspace_bytes"] if plan else None),
        ratio(_over_plan(record)),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
