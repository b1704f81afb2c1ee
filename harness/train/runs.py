"""One training run in a process of its own: an example, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.environment import describe_host
from harness.json_lines import object_in

OK, ERROR = "ok", "error"
LOSSES = ("standard", "chunked")
_EXAMPLES = {"torch": "examples.train_torch", "jax": "examples.train_flax"}
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
    """The record of the run. One that was interrupted goes on from its last checkpoint."""
    output_dir = directory / combination.name.replace(" ", "_")
    command = [
        *(sys.executable, "-m", "harness.train.child", _EXAMPLES[combination.framework]),
        *(f"--loss={combination.loss}", f"--output_dir={output_dir}"),
        *(f"--{name}={size}" for name, size in sizes.items()),
        *(["--resume"] if _has_checkpoint(output_dir) else []),
    ]
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run(command, cwd=_ROOT, env=environment, check=False)
    host = describe_host()
    host["versions"] |= {package: version(package) for package in _PACKAGES[combination.framework]}
    lines = read_metrics(output_dir / "metrics.jsonl")
    last = lines[-1] if lines else {}
    finished = done.returncode == 0 and "memory" in last
    return {
        **combination.to_json(sizes),
        "started_at": started_at,
        "status": OK if finished else ERROR,
        "error": None if finished else f"exit status {done.returncode}",
        "train_loss": [line["loss"] for line in lines if "loss" in line],
        "step_s": [line["step_s"] for line in lines if "step_s" in line],
        "held_out": [
            [line["step"], line["held_out_loss"]] for line in lines if "held_out_loss" in line
        ],
        "recipe": lines[0].get("recipe") if lines else None,
        "memory": last["memory"] if finished else None,
        "sample": last["sample"] if finished else None,
        "environment": host,
    }


def _has_checkpoint(output_dir: Path) -> bool:
    return any((output_dir / name).exists() for name in ("checkpoint.pt", "checkpoints"))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's `metrics.jsonl`; none if it did not get that far."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [found for line in lines if (found := object_in(line)) is not None]
