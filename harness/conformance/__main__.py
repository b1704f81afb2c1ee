"""Who computes the right loss and gradients: ours, the standards, and every peer present.

    python -m harness.conformance
    python -m harness.conformance --framework=jax --variants=chunked,standard,tokamax
    python -m harness.conformance --device=cpu
    python -m harness.conformance --resume        go on with a run that was interrupted

Prints a matrix of case against implementation and writes it, with a record for every
cell, into a folder under --output_dir. A peer takes part where it can be imported.

Exit status: 0 when our losses are right in every case, 1 when not; 2 for unusable
flags; 130 after an interrupt, with what was judged kept.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from absl import flags
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness.conformance import matrix
from harness.conformance.cases import CASES
from harness.conformance.checks import RIGHT, UNAVAILABLE
from harness.conformance.runner import Implementation, run_implementation, write_answers
from harness.environment import describe_gpu, describe_host
from harness.flags import DEVICES, BadFlagError, device_of, open_store
from harness.store import NotWrittenError, RunStore
from harness.variants import PEERS, VARIANTS

FRAMEWORKS = ("torch", "jax")
OURS = "chunked"
_LOSSES = {name: variant for name, variant in VARIANTS.items() if variant.is_loss} | PEERS
_INTERRUPTED = 130
_PACKAGES = (
    "torch", "triton", "cut-cross-entropy", "liger-kernel", "quack-kernels",
    "jax", "optax", "tokamax",
)  # fmt: skip


def define_flags() -> flags.FlagValues:
    """The flags, on a value of their own: importing this module defines nothing globally."""
    values = flags.FlagValues()
    about = "; ".join(f"{name}: {variant.about}" for name, variant in _LOSSES.items())
    flags.DEFINE_enum(
        "framework", "all", ["jax", "torch", "all"], "Framework to judge.", flag_values=values
    )
    flags.DEFINE_list(
        "variants", list(_LOSSES), f"Implementations to judge. {about}.", flag_values=values
    )
    flags.DEFINE_enum(
        "device", "auto", DEVICES, "auto takes a GPU if there is one.", flag_values=values
    )
    flags.DEFINE_string(
        "output_dir", "results/conformance", "Where the folder is made.", flag_values=values
    )
    flags.DEFINE_bool(
        "resume", False, "Go on with the newest unfinished run of the same cases.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool("help", False, "Show this help.", short_name="h", flag_values=values)
    return values


def main(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    values = define_flags()
    try:
        rest = values(["harness.conformance", *arguments])[1:]
        if values.help:
            console.print(f"{__doc__}\n{values.get_help()}", markup=False)
            return 0
        if rest:
            raise ValueError(f"unexpected argument {rest[0]!r}: flags are written --name=value")
        implementations = _implementations(values)
        cells = [{"case_id": case_id(each, name)} for each in implementations for name in CASES]
        store = open_store(values, cells, "harness.conformance", arguments)
    except (flags.Error, BadFlagError, ValueError) as error:
        print(f"harness.conformance: {error}", file=sys.stderr)
        return 2
    try:
        _run(implementations, store, console)
    except KeyboardInterrupt:
        console.print(f"interrupted; what was judged is in {store.directory}: go on with --resume")
        return _INTERRUPTED
    except NotWrittenError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1
    finally:
        store.release()
    records = store.records()
    for table in matrix.tables(records):
        console.print(table)
    if missing := matrix.missing(records):
        console.print("\n".join(["Not here:", *missing, ""]), markup=False)
    console.print(matrix.RULE)
    path = store.directory / "matrix.md"
    path.write_text(f"# Conformance\n\n```\n{store.command}\n```\n\n{matrix.markdown(records)}")
    console.print(f"\n{path}")
    # Where a GPU was to be judged, a framework that does not see it is a failure.
    good = (RIGHT,) if implementations[0].device == "gpu" else (RIGHT, UNAVAILABLE)
    ours = [record for record in records if record["variant"] == OURS]
    return 0 if all(record["status"] in good for record in ours) else 1


def _implementations(values: flags.FlagValues) -> list[Implementation]:
    unknown = [name for name in values.variants if name not in _LOSSES]
    if unknown or not values.variants:
        raise ValueError(
            f"--variants: expected a list of {', '.join(_LOSSES)}, got {','.join(values.variants)}"
        )
    frameworks = FRAMEWORKS if values.framework == "all" else (values.framework,)
    device = device_of(values)
    found = [
        Implementation(
            framework,
            name,
            variant.targets[framework],
            variant.environment if device == "cpu" else (),
            device,
        )
        for framework in frameworks
        for name, variant in _LOSSES.items()
        if name in values.variants and framework in variant.targets
    ]
    if not found:
        raise ValueError(
            f"--variants: expected one that {values.framework} has, got {','.join(values.variants)}"
        )
    return found


def _run(implementations: list[Implementation], store: RunStore, console: Console) -> None:
    host = describe_host()
    host["versions"] |= _installed()
    device = implementations[0].device
    host["gpu"] = _gpu_name() if device == "gpu" else None
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    progress = Progress(*columns, TimeElapsedColumn(), console=console)
    with progress, tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        judged = {record["case_id"] for record in store.records()}
        left = {
            each: [name for name in CASES if case_id(each, name) not in judged]
            for each in implementations
        }
        wanted = [name for name in CASES if any(name in names for names in left.values())]
        task = progress.add_task("", total=len(wanted) + sum(map(len, left.values())))
        for name in write_answers(wanted, directory):
            progress.update(task, description=f"float64: {name}", advance=1)
        for implementation, names in left.items():
            for name, verdict in run_implementation(implementation, names, directory):
                record = {
                    "case_id": case_id(implementation, name),
                    "framework": implementation.framework,
                    "variant": implementation.variant,
                    "device": device,
                    "case": name,
                    **verdict._asdict(),
                    "environment": host,
                }
                store.append(record)
                progress.update(task, description=f"{implementation.name}: {name}", advance=1)


def case_id(implementation: Implementation, name: str) -> str:
    """Of one cell of the matrix."""
    return f"{implementation.name}: {name}"


def _gpu_name() -> str:
    return (describe_gpu() or "a GPU").partition(",")[0]


def _installed() -> dict[str, str]:
    """The versions of the packages that are judged, without loading them."""
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
