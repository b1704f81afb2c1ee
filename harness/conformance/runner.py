"""Every implementation in a process of its own, which an abort or a hang ends alone.

The parent loads no framework. It solves each case once, in NumPy, and leaves the
answer where the workers find it.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from harness.conformance.cases import CASES
from harness.conformance.checks import RAISES, UNAVAILABLE, Verdict, has_answer
from harness.conformance.judge import judge
from harness.conformance.problem import Answer, solve
from harness.orphan import die_with_parent
from harness.targets import in_one_line, load_target
from harness.variants import PEERS
from harness.workload import UnavailableError

TIMEOUT_S = 600.0  # for one case
UNTUNED = "--xla_gpu_autotune_level=0"


class Implementation(NamedTuple):
    """One column of the matrix, on a "cpu" or a "gpu"."""

    framework: str
    variant: str
    target: str
    environment: tuple[tuple[str, str], ...] = ()
    device: str = "cpu"

    @property
    def name(self) -> str:
        return f"{self.framework} {self.variant}"


def write_answers(names: Iterable[str], directory: Path) -> Iterator[str]:
    """Solves these cases; yields the name of each when that is done."""
    for case in map(CASES.__getitem__, names):
        if has_answer(case.check):
            _answer_path(directory, case.name).write_bytes(pickle.dumps(solve(case.make())))
        yield case.name


def run_implementation(
    implementation: Implementation, names: Iterable[str], directory: Path
) -> Iterator[tuple[str, Verdict]]:
    """The verdict on each of these cases, in their order."""
    left = list(names)
    while left:
        with _worker(implementation, left, directory) as (process, pipe):
            while left:
                verdict = _receive(pipe)
                yield left.pop(0), verdict or _last_words(process)
                if verdict is None:
                    break  # the next case goes on in a new process


def _receive(pipe: Connection) -> Verdict | None:
    """The worker's next verdict, None if it has none to give."""
    try:
        return Verdict(*pipe.recv()) if pipe.poll(TIMEOUT_S) else None
    except EOFError:
        return None


def _last_words(process: BaseProcess) -> Verdict:
    process.join(timeout=5)  # it has closed the pipe, or it hangs
    code = process.exitcode
    if code is None:
        return Verdict(RAISES, f"no answer in {TIMEOUT_S:g} s")
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return Verdict(RAISES, f"the process died: {how}")


@contextmanager
def _worker(
    implementation: Implementation, names: Sequence[str], directory: Path
) -> Iterator[tuple[BaseProcess, Connection]]:
    """A fresh process that judges these cases; killed on any way out."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=_judge_all, args=(theirs, implementation, list(names), directory), daemon=True
    )
    with _environment(implementation):
        process.start()
    theirs.close()  # or the end of the worker would not be the end of the pipe
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


def device_environment(device: str) -> dict[str, str]:
    """What a process must have from the start, for its frameworks to be on this device alone."""
    if device == "cpu":
        return {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return {
        # Three quarters of the memory at the start would leave nothing to the next process.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # JAX would round float32 operands to TF32 on a GPU, and PyTorch would not.
        "JAX_DEFAULT_MATMUL_PRECISION": "highest",
        # What is right must not hang on it, and it is most of the time that a compilation takes.
        "XLA_FLAGS": f"{UNTUNED} {os.environ.get('XLA_FLAGS', '')}".strip(),
    }


@contextmanager
def _environment(implementation: Implementation) -> Iterator[None]:
    """What a new process inherits."""
    before = dict(os.environ)
    os.environ |= device_environment(implementation.device)
    os.environ |= dict(implementation.environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def _judge_all(
    pipe: Connection, implementation: Implementation, names: list[str], directory: Path
) -> None:
    """The worker: sends one verdict a case."""
    die_with_parent()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    warnings.simplefilter("ignore")
    for verdict in judge_cases(implementation, names, directory):
        pipe.send(verdict)


def judge_cases(
    implementation: Implementation, names: Sequence[str], directory: Path
) -> Iterator[Verdict]:
    """The verdict on each of these cases, whose answers are in the directory; in this process."""
    try:
        target, adapter = _load(implementation)
    except UnavailableError as error:
        yield from repeat(Verdict(UNAVAILABLE, str(error)), len(names))
        return
    except Exception as error:
        yield from repeat(Verdict(RAISES, in_one_line(error)), len(names))
        return
    with adapter.settings():
        for name in names:
            case, path = CASES[name], _answer_path(directory, name)
            answer: Answer | None = None
            if has_answer(case.check):
                answer = pickle.loads(path.read_bytes())
            yield judge(case, case.make(), answer, adapter, target)


def _load(implementation: Implementation) -> tuple[Callable[..., Any], ModuleType]:
    """The function, and the adapter that calls it.

    Raises `UnavailableError` where the framework has no such device, or a peer cannot be
    imported, for whatever reason; ours must be, wherever its framework is installed.
    """
    framework = implementation.framework
    try:
        target = load_target(implementation.target)
        backend: Any = importlib.import_module(f"harness.backends.{framework}_backend")
        backend.select_device(implementation.device)
        return target, importlib.import_module(f"harness.conformance.{framework}_adapter")
    except UnavailableError:
        raise
    except Exception as error:
        if implementation.variant not in PEERS:
            raise
        raise UnavailableError(in_one_line(error)) from error


def _answer_path(directory: Path, name: str) -> Path:
    return directory / f"{list(CASES).index(name)}.pickle"
