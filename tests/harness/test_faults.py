"""Whatever is done to a sweep or to its folder: no record is lost, none is made up."""

from __future__ import annotations

import functools
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness import scheduler
from harness.cases import Measurement, Shape, make_case
from harness.record import new_record
from harness.store import RunStore, new_run, open_run
from harness.sweep import run_sweep
from tests.harness.conftest import ROOT, TINY, RunHarness, harness_command

FLOOR = (*TINY, "--framework=torch", "--variants=floor", "--vocab_sizes=96,100")
SHAPE = Shape(
    batch_size=2, seq_len=16, hidden_dim=8, vocab_size=96, dtype="float32",
    ignored_fraction=0.0, seed=0,
)  # fmt: skip


@pytest.fixture
def before_the_first_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers_here: None
) -> Callable[[Callable[[Path], object]], None]:
    """Does something to the folder of a run when its first worker starts."""

    def set_up(do: Callable[[Path], object]) -> None:
        run_worker = scheduler.run_worker
        left = [do]

        def disturbed(*of_a_case: Any) -> scheduler.Ended:
            while left:
                left.pop()(_run_in(tmp_path / "results"))
            return run_worker(*of_a_case)

        monkeypatch.setattr(scheduler, "run_worker", disturbed)

    return set_up


def test_disk_full_while_a_record_is_written(
    run_here: RunHarness,
    before_the_first_case: Callable[[Callable[[Path], object]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The record that did not fit is kept elsewhere; put back, it is not measured again."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))

    def fill_the_disk(directory: Path) -> None:
        for name in ("records.jsonl", "summary.md"):
            (directory / name).symlink_to("/dev/full")

    before_the_first_case(fill_the_disk)
    stopped = run_here(*FLOOR)
    assert (stopped.status, stopped.stderr) == (1, "")
    assert stopped.directory is not None
    (kept,) = elsewhere.glob("*.jsonl")
    records = stopped.directory / "records.jsonl"
    put_back = f"cat {kept} >> {records}"
    assert f"{records} could not be written: No space left on device" in stopped.stdout
    assert put_back in stopped.stdout
    assert "repeat the command with --resume" in stopped.stdout

    for name in ("records.jsonl", "summary.md"):
        (stopped.directory / name).unlink()
    subprocess.run(["bash", "-c", put_back], check=True)
    (line,) = records.read_text().splitlines()
    assert json.loads(line)["timing"]["step_s"]
    done = run_here(*FLOOR, "--resume")
    assert done.status == 0, done.stdout + done.stderr
    assert records.read_text().splitlines()[0] == line
    assert [record["vocab_size"] for record in done.records] == [96, 100]


def test_report_that_cannot_be_written(run_here: RunHarness) -> None:
    done = run_here(*FLOOR)
    assert done.directory is not None
    (done.directory / "summary.md").unlink()
    (done.directory / "summary.md").symlink_to("/dev/full")
    again = run_here(*FLOOR, "--resume")
    assert again.status == 1
    assert "no report: [Errno 28] No space left on device; repeat the command" in again.stdout
    assert again.stderr == ""
    assert again.records == done.records


def test_folder_removed_under_way(
    run_here: RunHarness,
    before_the_first_case: Callable[[Callable[[Path], object]], None],
    tmp_path: Path,
) -> None:
    """It is made again with all that was in it, and the report with it."""
    run: list[str] = []

    def remove(directory: Path) -> None:
        run.append((directory / "run.json").read_text())
        shutil.rmtree(tmp_path / "results")

    before_the_first_case(remove)
    done = run_here(*FLOOR)
    assert (done.status, done.stderr) == (0, "")
    assert done.directory is not None
    assert (done.directory / "run.json").read_text() == run[0]
    assert [record["vocab_size"] for record in open_run(done.directory).records()] == [96, 100]
    assert (done.directory / "report.html").exists()
    assert str(done.directory / "report.html") in done.stdout


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        (None, 0, ""),
        (KeyboardInterrupt(), 130, "interrupted with 0 cases to go: repeat the command"),
        (OSError("no room"), 1, "no report: no room; repeat the command"),
    ],
    ids=repr,
)
def test_fault_after_the_last_record(
    tmp_path: Path, fault: BaseException | None, status: int, words: str
) -> None:
    """The folder is gone when all is measured, and the report is disturbed as well."""
    measurement = Measurement(
        warmup=0, repeats=1, timeout_s=60.0, device="cpu", memory_limit_gib=None
    )
    case = make_case("torch", "floor", SHAPE, measurement, {})
    store = new_run(tmp_path / "results", [case.to_json()], "command")
    store.append(new_record(case, store.run_id) | {"status": "ok"})
    shutil.rmtree(tmp_path / "results")

    def show(results: list[dict[str, Any]], store: RunStore, console: Console) -> None:
        assert open_run(store.directory).records() == results
        if fault is not None:
            raise fault

    said = io.StringIO()
    assert run_sweep([case], store, Console(file=said, width=120), show) == status
    assert words in said.getvalue()
    assert len(open_run(store.directory).records()) == 1


def test_second_sweep_in_the_same_run_is_refused(run_here: RunHarness, tmp_path: Path) -> None:
    with _process([*harness_command(*FLOOR), f"--output_dir={tmp_path / 'results'}"]) as process:
        directory = _run_in(tmp_path / "results")
        refused = run_here(*FLOOR, "--resume")
        assert process.poll() is None
    assert refused.status == 2
    assert refused.stderr == (
        "harness.run: --resume: expected a run that nobody is at work on: "
        f"process {process.pid} is at work on {directory}\n"
    )
    # The first was killed, and that has let go of the run.
    assert run_here(*FLOOR, "--resume").status == 0


def test_killed_with_workers_and_resumed(run_here: RunHarness, tmp_path: Path) -> None:
    """While it loads, while a worker starts, while the second one is at work."""
    flags = (*FLOOR, "--variants=floor,chunked")
    command = [*harness_command(*flags), f"--output_dir={tmp_path / 'results'}"]
    resume: list[str] = []
    for moment_s, num_records in ((0.5, 0), (2.0, 0), (0.5, 1)):
        with _process([*command, *resume]):
            directory = _run_in(tmp_path / "results")
            if num_records:
                _wait_for(functools.partial(_is_larger_than, directory / "records.jsonl", 0))
            time.sleep(moment_s)
        resume = ["--resume"]
    assert 1 <= len(open_run(directory).records()) < 4
    done = run_here(*flags, "--resume")
    assert done.status == 0, done.stdout + done.stderr
    _check_whole(directory, num_cases=4)


def test_killed_around_its_records_and_resumed(tmp_path: Path) -> None:
    """Cases of a few milliseconds: most kills come while one is written or has just been."""
    sizes = ",".join(map(str, range(96, 296)))
    command = [
        sys.executable, "-m", "tests.harness.run_instantly", *TINY, "--device=cpu",
        "--framework=jax", f"--vocab_sizes={sizes}", f"--output_dir={tmp_path}",
    ]  # fmt: skip
    moments = random.Random(0)
    resume: list[str] = []
    kept = b""
    for _ in range(5):
        with _process([*command, *resume]):
            directory = _run_in(tmp_path)
            records = directory / "records.jsonl"
            _wait_for(functools.partial(_is_larger_than, records, len(kept)))
            time.sleep(moments.uniform(0.0, 0.1))
        content = records.read_bytes()
        assert content.startswith(kept)
        kept = content[: content.rindex(b"\n") + 1]
        resume = ["--resume"]
    assert kept.count(b"\n") < 600
    done = subprocess.run(
        [*command, *resume], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _check_whole(directory, num_cases=600)


def _is_larger_than(path: Path, size_bytes: int) -> bool:
    return path.exists() and path.stat().st_size > size_bytes


def _check_whole(directory: Path, num_cases: int) -> None:
    """One record a case, none of them spoilt."""
    records = open_run(directory).records()
    assert len(records) == num_cases
    assert set(Counter(record["case_id"] for record in records).values()) == {1}
    assert {record["status"] for record in records} == {"ok"}
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Killed at the end of the block, if it has not ended by itself."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env={**os.environ, "COLUMNS": "120"},
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def _run_in(output_dir: Path) -> Path:
    """The folder of the one run, as soon as it is there."""
    return _wait_for(lambda: next(iter(output_dir.glob("*/run.json")), None)).parent


def _wait_for(condition: Callable[[], object], timeout_s: float = 60.0):
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)
    return result
