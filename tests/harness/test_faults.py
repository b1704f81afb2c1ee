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
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.cases import Measurement, Shape, make_case
from harness.record import new_record
from harness.store import RunStore, new_run, open_run
from harness.sweep import run_sweep
from tests.harness.conftest import ROOT, TINY, Finished, harness_command

FLOOR = (*TINY, "--framework=torch", "--variants=floor", "--vocab_sizes=96,100")
SHAPE = Shape(
    batch_size=2, seq_len=16, hidden_dim=8, vocab_size=96, dtype="float32",
    ignored_fraction=0.0, seed=0,
)  # fmt: skip


def test_disk_full_while_a_record_is_written(
    run_harness: Callable[..., Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record that did not fit is kept elsewhere; put back, it is not measured again."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    with _started(*FLOOR, output_dir=tmp_path / "results") as process:
        directory = _run_in(tmp_path / "results")
        for name in ("records.jsonl", "summary.md"):
            (directory / name).symlink_to("/dev/full")
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr == ""
    (kept,) = elsewhere.glob("*.jsonl")
    records = directory / "records.jsonl"
    put_back = f"cat {kept} >> {records}"
    assert f"{records} could not be written: No space left on device" in stdout
    assert put_back in stdout
    assert "repeat the command with --resume" in stdout

    for name in ("records.jsonl", "summary.md"):
        (directory / name).unlink()
    subprocess.run(["bash", "-c", put_back], check=True)
    (line,) = records.read_text().splitlines()
    assert json.loads(line)["timing"]["step_s"]
    done = run_harness(*FLOOR, "--resume")
    assert done.status == 0, done.stdout + done.stderr
    assert records.read_text().splitlines()[0] == line
    assert [record["vocab_size"] for record in done.records] == [96, 100]


def test_report_that_cannot_be_written(run_harness: Callable[..., Finished]) -> None:
    done = run_harness(*FLOOR)
    assert done.directory is not None
    (done.directory / "summary.md").unlink()
    (done.directory / "summary.md").symlink_to("/dev/full")
    again = run_harness(*FLOOR, "--resume")
    assert again.status == 1
    assert "no report: [Errno 28] No space left on device; repeat the command" in again.stdout
    assert again.stderr == ""
    assert again.records == done.records


def test_folder_removed_under_way(tmp_path: Path) -> None:
    """It is made again with all that was in it, and the report with it."""
    output_dir = tmp_path / "results"
    with _started(*FLOOR, output_dir=output_dir) as process:
        directory = _run_in(output_dir)
        run = (directory / "run.json").read_text()
        _wait_for(lambda: (directory / "records.jsonl").exists())
        shutil.rmtree(output_dir)
        stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (0, "")
    assert (directory / "run.json").read_text() == run
    assert [record["vocab_size"] for record in open_run(directory).records()] == [96, 100]
    assert (directory / "report.html").exists()
    assert str(directory / "report.html") in stdout


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


def test_second_sweep_in_the_same_run_is_refused(
    run_harness: Callable[..., Finished], tmp_path: Path
) -> None:
    with _started(*FLOOR, output_dir=tmp_path / "results") as process:
        directory = _run_in(tmp_path / "results")
        refused = run_harness(*FLOOR, "--resume")
        assert process.poll() is None
    assert refused.status == 2
    assert refused.stderr == (
        "harness.run: --resume: expected a run that nobody is at work on: "
        f"process {process.pid} is at work on {directory}\n"
    )
    # The first was killed, and that has let go of the run.
    assert run_harness(*FLOOR, "--resume").status == 0


def test_killed_with_workers_and_resumed(tmp_path: Path) -> None:
    """While it loads, while a worker starts, while the second one is at work."""
    command = [
        *harness_command(*FLOOR, "--variants=floor,chunked"), f"--output_dir={tmp_path}",
    ]  # fmt: skip
    resume: list[str] = []
    for moment_s, num_records in ((0.5, 0), (2.0, 0), (0.5, 1)):
        with _process([*command, *resume]):
            directory = _run_in(tmp_path)
            if num_records:
                _wait_for(functools.partial(_is_larger_than, directory / "records.jsonl", 0))
            time.sleep(moment_s)
        resume = ["--resume"]
    assert 1 <= len(open_run(directory).records()) < 4
    _finish([*command, *resume], directory, num_cases=4)


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
    for _ in range(8):
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
    _finish([*command, *resume], directory, num_cases=600)


def _is_larger_than(path: Path, size_bytes: int) -> bool:
    return path.exists() and path.stat().st_size > size_bytes


def _finish(command: list[str], directory: Path, num_cases: int) -> None:
    """Nothing more comes in between: one record a case, none of them spoilt."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    records = open_run(directory).records()
    assert len(records) == num_cases
    assert set(Counter(record["case_id"] for record in records).values()) == {1}
    assert {record["status"] for record in records} == {"ok"}
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


def _started(*flags: str, output_dir: Path):
    return _process([*harness_command(*flags), f"--output_dir={output_dir}"])


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
