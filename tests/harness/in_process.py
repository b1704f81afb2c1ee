"""A worker and its reference in the process of a test, for what is not about processes.

All that goes between them and the parent goes through JSON, as it does on the pipe, and whatever
a worker sets is set back when it has ended. What can end a process, or limits it, is no matter for
this: `run_harness` and `run_parent_here` start workers.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import resource
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import jax
import pytest
import torch

from harness import measure, scheduler, sweep, worker
from harness.cases import Case, Shape
from harness.prediction import run as prediction
from harness.reference import write_reference
from harness.scheduler import Ended, read_ended
from tests.harness.blank_pictures import draw_nothing

_JAX_SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision", "jax_platforms")


def run_workers_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, workers and references run in this process."""
    monkeypatch.setattr(scheduler, "run_worker", _run_worker)
    monkeypatch.setattr(sweep, "run_reference", _run_reference)
    # It makes the C allocator of the whole process keep nothing, and for good.
    monkeypatch.setattr(measure, "host_rss", lambda step: None)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes long and is tested elsewhere: pictures, and the machine's speed."""
    draw_nothing(monkeypatch)
    monkeypatch.setattr(prediction, "flops_per_s", lambda device, dtype: 1e11)


def _run_worker(case: Case, reference: Path | None, trace: Path) -> Ended:
    case = Case.from_json(json.loads(json.dumps(case.to_json())))
    pipe, printed = io.StringIO(), io.StringIO()
    with _settings_kept(), redirect_stdout(printed), redirect_stderr(printed):
        worker.run_case(case, reference, trace, worker.sends_to(pipe))
    return read_ended(pipe.getvalue().encode(), 0, printed.getvalue().encode())


def _run_reference(shape: Shape, device: str, directory: Path, timeout_s: float) -> None:
    shape = Shape(**json.loads(json.dumps(dataclasses.asdict(shape))))
    try:
        write_reference(shape, directory, device)
    except Exception as error:
        raise RuntimeError(f"reference: {error}") from error


@contextmanager
def _settings_kept() -> Iterator[None]:
    """Sets back what a worker may set for its process; a warning in it is no error."""
    environment = dict(os.environ)
    limits = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)}
    of_jax = {name: getattr(jax.config, name) for name in _JAX_SETTINGS}
    with ExitStack() as after, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        after.callback(torch.set_num_threads, torch.get_num_threads())
        after.callback(torch.set_default_dtype, torch.get_default_dtype())
        after.callback(torch.set_grad_enabled, torch.is_grad_enabled())
        after.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ |= environment
            for kind, limit in limits.items():
                resource.setrlimit(kind, limit)
            for name, value in of_jax.items():
                jax.config.update(name, value)
