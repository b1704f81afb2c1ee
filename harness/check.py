"""Whether this machine can measure: its dependencies, the device, and the frameworks on it.

    python -m harness.check                 for the device that harness.run would take
    python -m harness.check --device=gpu --framework=jax

Run it in a checkout: what is needed stands in `requirements/`.

Exit status: 0 when all that a measurement needs is here, 1 when something is missing, which
is then said; 2 for unusable flags. What only the tests need may be missing.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from absl import flags
from packaging.requirements import Requirement

from harness.environment import describe_gpu, describe_host
from harness.flags import (
    DEVICES,
    BadFlagError,
    device_of,
    frameworks_of,
    new_console,
    parse,
)
from harness.report.rich_table import rich_table
from harness.report.section import TableText

COMMAND = "harness.check"
_ROOT = Path(__file__).resolve().parent.parent
_REQUIREMENTS = _ROOT / "requirements"
_TIMEOUT_S = 120

# In a process of its own, as a worker is: with the same backend, and the other not loaded.
_SELECT = """
import sys
from harness.backends import {framework}_backend as backend
device, gpu = backend.select_device(sys.argv[1])
print(", ".join([*(f"{{name}} {{at}}" for name, at in backend.versions().items()), gpu or device]))
"""


class Found(NamedTuple):
    """One thing that was looked for."""

    what: str
    found: str
    missing: str = ""
    """What is wrong with it, if something is."""
    is_needed: bool = True


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_enum(
        "framework", "all", ["jax", "torch", "all"], "Framework to check.", flag_values=values
    )
    flags.DEFINE_enum(
        "device", "auto", DEVICES, "auto takes a GPU if there is one.", flag_values=values
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
        if not _REQUIREMENTS.is_dir():
            raise BadFlagError(f"expected a checkout with {_REQUIREMENTS}: start it there")
    except (flags.Error, BadFlagError) as error:
        print(f"{COMMAND}: {error}", file=sys.stderr)
        return 2
    found = list(_look(device_of(values), frameworks_of(values)))
    console.print(rich_table(_table(found), f"For measurements on a {device_of(values).upper()}"))
    return 1 if any(each.missing and each.is_needed for each in found) else 0


def _look(device: str, frameworks: Sequence[str]) -> Iterator[Found]:
    host = describe_host()
    yield Found("Python", host["versions"]["python"])
    yield Found("CPU", f"{host['cpu']['model']}, {host['cpu']['cores']} cores")
    if device == "gpu":
        gpu = describe_gpu()
        yield Found("GPU", gpu or "", "" if gpu else "nvidia-smi lists none")
    for name in ("core", "harness", *frameworks):
        yield from _packages(name, is_needed=True)
    yield from _packages("dev", is_needed=False)
    for framework in frameworks:
        yield _framework(framework, device)


def _packages(name: str, *, is_needed: bool) -> Iterator[Found]:
    """Those of one file of requirements."""
    for line in (_REQUIREMENTS / f"{name}.txt").read_text().splitlines():
        if line and not line.startswith(("#", "-")):
            yield _package(Requirement(line), is_needed)


def _package(requirement: Requirement, is_needed: bool) -> Found:
    what = f"{requirement.name}{requirement.specifier}"
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        of_tests = "" if is_needed else "; only the tests need it"
        return Found(what, "", f"not installed{of_tests}", is_needed)
    fits = requirement.specifier.contains(installed, prereleases=True)
    return Found(what, installed, "" if fits else "another version is needed", is_needed)


def _framework(framework: str, device: str) -> Found:
    what = f"{framework} on the {device.upper()}"
    command = [sys.executable, "-c", _SELECT.format(framework=framework), device]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=_ROOT, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return Found(what, "", f"no answer in {_TIMEOUT_S} s")
    if done.returncode == 0:
        return Found(what, done.stdout.strip().splitlines()[-1])
    return Found(what, "", (done.stderr.strip().splitlines() or ["it died"])[-1])


def _table(found: Sequence[Found]) -> TableText:
    return TableText(
        title="",
        headers=("", "found", "missing"),
        numeric=(False, False, False),
        rows=tuple((each.what, each.found, each.missing) for each in found),
        starts_group=(False,) * len(found),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
