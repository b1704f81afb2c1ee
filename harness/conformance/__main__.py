"""Who computes the right loss and gradients: ours, the standards, and every peer present.

    python -m harness.conformance
    python -m harness.conformance --framework=jax --variants=chunked,standard,tokamax

Prints a matrix of case against implementation and writes it, with a record for every
cell, into a folder under --output_dir. A peer takes part where it can be imported.

Exit status: 0 when our losses are right in every case, 1 when not; 2 for unusable
flags; 130 after an interrupt, with what was judged kept.
"""

from __future__ import annotations

import shlex
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
from harness.environment import describe_host
from harness.store import NotWrittenError, RunStore, new_run
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
    flags.DEFINE_string(
        "output_dir", "results/conformance", "Where the folder is made.", flag_values=values
    )
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
        command = shlex.join(["python", "-m", "harness.conformance", *arguments])
        store = new_run(Path(values.output_dir), [], command)
    except (flags.Error, ValueError, OSError) as error:
        print(f"harness.conformance: {error}", file=sys.stderr)
        return 2
    try:
        _run(implementations, store, console)
    except KeyboardInterrupt:
        console.print(f"interrupted; what was judged is in {store.directory}")
        return _INTERRUPTED
    except NotWrittenError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        return 1
    records = store.records()
    for table in matrix.tables(records):
        console.print(table)
    if missing := matrix.missing(records):
        console.print("\n".join(["Not here:", *missing, ""]), markup=False)
    console.print(matrix.RULE)
    path = store.directory / "matrix.md"
    path.write_text(f"# Conformance\n\n```\n{command}\n```\n\n{matrix.markdown(records)}")
    console.print(f"\n{path}")
    ours = [record for record in records if record["variant"] == OURS]
    return 0 if all(record["status"] in (RIGHT, UNAVAILABLE) for record in ours) else 1


def _implementations(values: flags.FlagValues) -> list[Implementation]:
    unknown = [name for name in values.variants if name not in _LOSSES]
    if unknown or not values.variants:
        raise ValueError(
            f"--variants: expected a list of {', '.join(_LOSSES)}, got {','.join(values.variants)}"
        )
    frameworks = FRAMEWORKS if values.framework == "all" else (values.framework,)
    found = [
        Implementation(framework, name, variant.targets[framework], variant.environment)
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
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    progress = Progress(*columns, TimeElapsedColumn(), console=console)
    with progress, tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        task = progress.add_task("", total=len(CASES) * (len(implementations) + 1))
        for name in write_answers(CASES, directory):
            progress.update(task, description=f"float64: {name}", advance=1)
        for implementation in implementations:
            for name, verdict in run_implementation(implementation, CASES, directory):
                record = {
                    "case_id": f"{implementation.name}: {name}",
                    "framework": implementation.framework,
                    "variant": implementation.variant,
                    "case": name,
                    **verdict._asdict(),
                    "environment": host,
                }
                store.append(record)
                progress.update(task, description=f"{implementation.name}: {name}", advance=1)


def _installed() -> dict[str, str]:
    """The versions of the packages that are judged, without loading them."""
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
