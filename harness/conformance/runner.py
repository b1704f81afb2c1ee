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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from harness.conformance.cases import CASES
from harness.conformance.checks import RAISES, UNAVAILABLE, Verdict, has_answer
from harness.conformance.judge import judge
from harness.conformance.problem import Answer, solve
from harness.orphan import die_with_parent
from harness.targets import load_target
from harness.workload import UnavailableError

_TIMEOUT_S = 600.0
_TIMEOUT = f"no answer in {_TIMEOUT_S:g} s"


class Implementation(NamedTuple):
    """One column of the matrix."""

    framework: str
    variant: str
    target: str
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        return f"{self.framework} {self.variant}"


def write_answers(directory: Path) -> Iterator[str]:
    """Solves every case; yields its name when that is done."""
    for case in CASES.values():
        if has_answer(case.check):
            _answer_path(directory, case.name).write_bytes(pickle.dumps(solve(case.make())))
        yield case.name


def run_implementation(
    implementation: Implementation, directory: Path
) -> Iterator[tuple[str, Verdict]]:
    """The verdict on every case, in the order of the table."""
    left = list(CASES)
    while left:
        with _worker(implementation, left, directory) as (process, pipe):
            while left:
                verdict = _receive(process, pipe)
                yield left.pop(0), verdict
                if process.exitcode is not None or verdict.detail == _TIMEOUT:
                    break  # go on with the next case in a new process


def _receive(process: BaseProcess, pipe: Connection) -> Verdict:
    """The next verdict: that of the worker, or that it did not live to give one."""
    if not pipe.poll(_TIMEOUT_S):
        return Verdict(RAISES, _TIMEOUT)
    try:
        return Verdict(*pipe.recv())
    except EOFError:
        process.join()
        code = process.exitcode or 0
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


@contextmanager
def _environment(implementation: Implementation) -> Iterator[None]:
    """What a new process inherits; the suite is about the CPU."""
    before = dict(os.environ)
    os.environ |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
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
    try:
        target = load_target(implementation.target)
        adapter = importlib.import_module(f"harness.conformance.{implementation.framework}_adapter")
    except UnavailableError as error:
        for _ in names:
            pipe.send(Verdict(UNAVAILABLE, str(error)))
        return
    with adapter.settings():
        for name in names:
            case, path = CASES[name], _answer_path(directory, name)
            answer: Answer | None = None
            if has_answer(case.check):
                answer = pickle.loads(path.read_bytes())
            pipe.send(judge(case, case.make(), answer, adapter, target))


def _answer_path(directory: Path, name: str) -> Path:
    return directory / f"{list(CASES).index(name)}.pickle"
