"""One training run in a process of its own: an example, then the memory of one more step."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.environment import describe_host
from harness.json_lines import objects_in
from harness.memory.oom_kills import kernel_oom_kills

OK, OOM, ERROR, UNAVAILABLE = "ok", "oom", "error", "unavailable"
LOSSES = ("standard", "chunked")
METRICS, MEMORY = "metrics.jsonl", "step_memory.json"
_LONGEST_MESSAGE = 400
_PACKAGES = {"torch": ("torch",), "jax": ("jax", "flax", "optax")}
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Combination:
    """A framework and a loss, which is all in which the runs differ."""

    framework: str
    loss: str

    @property
    def name(self) -> str:
        return f"{self.framework} {self.loss}"

    def to_json(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        return {
            "case_id": self.name, "framework": self.framework, "loss": self.loss,
            "sizes": dict(sizes),
        }  # fmt: skip


def train(combination: Combination, sizes: Mapping[str, int], directory: Path) -> dict[str, Any]:
    """The record of the run. One that was interrupted goes on from its last checkpoint.

    A run that is complete is "ok", also if its process died while the memory of a step was
    measured: `memory` is None then, and `error` says what happened.
    """
    host = describe_host()
    record = {
        **combination.to_json(sizes),
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": UNAVAILABLE, "error": None, "recipe": None, "train_loss": [], "step_s": [],
        "held_out": [], "memory": None, "sample": None, "environment": host,
    }  # fmt: skip
    packages = _PACKAGES[combination.framework]
    if missing := [package for package in packages if find_spec(package) is None]:
        record["error"] = {"type": "Unavailable", "message": f"{missing[0]} is not installed"}
        return record
    host["versions"] |= {package: version(package) for package in packages}
    output_dir = directory / combination.name.replace(" ", "_")
    (output_dir / MEMORY).unlink(missing_ok=True)  # of an earlier try
    status, error = _run(combination, sizes, output_dir)
    recipe, *lines = objects_in(output_dir / METRICS) or [{}]
    last = lines[-1] if lines else {}
    is_complete = "median_step_s" in last
    if status == OK and not is_complete:
        status, error = ERROR, {"type": "Unfinished", "message": "the run left no last line"}
    elif error and is_complete:
        status, error = OK, _after_the_run(status, error)
    return record | {
        "status": status,
        "error": error,
        "recipe": recipe.get("recipe"),
        "train_loss": [line["loss"] for line in lines if "loss" in line],
        "step_s": [line["step_s"] for line in lines if "step_s" in line],
        "held_out": [
            [line["step"], line["held_out_loss"]] for line in lines if "held_out_loss" in line
        ],
        "memory": next(iter(objects_in(output_dir / MEMORY)), None),
        "sample": last.get("sample"),
    }


def _after_the_run(status: str, error: dict[str, str]) -> dict[str, str]:
    """The error of a process that had nothing left to do but to measure memory."""
    cause = "ran out of memory" if status == OOM else "failed"
    message = f"the run is complete; its process then {cause}, and said: {error['message']}"
    return error | {"message": message}


def _run(
    combination: Combination, sizes: Mapping[str, int], output_dir: Path
) -> tuple[str, dict[str, str] | None]:
    """The status of the process, and what it said last if that is no good one."""
    command = [
        *(sys.executable, "-m", "harness.train.child"),
        *(combination.framework, str(output_dir / MEMORY)),
        *(f"--loss={combination.loss}", f"--output_dir={output_dir}"),
        *(f"--{name}={size}" for name, size in sizes.items()),
        *(["--resume"] if (output_dir / METRICS).exists() else []),
    ]
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    oom_kills = kernel_oom_kills()
    done = subprocess.run(
        command, cwd=_ROOT, env=environment, check=False, stderr=subprocess.PIPE, text=True,
        errors="replace",
    )  # fmt: skip
    sys.stderr.write(done.stderr)
    if done.returncode == 0:
        return OK, None
    said = (done.stderr.strip().splitlines() or ["nothing"])[-1][:_LONGEST_MESSAGE]
    killed = done.returncode == -signal.SIGKILL and kernel_oom_kills() > oom_kills
    error = {"type": f"exit status {done.returncode}", "message": said}
    return OOM if killed else ERROR, error
