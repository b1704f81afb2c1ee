"""Records survive: cut lines, a full disk, a removed folder, a clock that steps back."""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from harness import store as store_module
from harness.durable import write_whole
from harness.record import judge
from harness.store import HeldError, NotWrittenError, RunStore, new_run, newest_run, open_run

CASES = [{"case_id": "a"}, {"case_id": "b"}]


def test_records_come_back_and_are_strict_json(tmp_path: Path) -> None:
    store = new_run(tmp_path, [{"case_id": "a"}], "command")
    store.append({"case_id": "a", "numerics": {"loss_error": math.nan, "list": [math.inf, 1.5]}})
    (line,) = (store.directory / "records.jsonl").read_text().splitlines()
    json.loads(line, parse_constant=pytest.fail)
    (record,) = store.records()
    assert math.isnan(record["numerics"]["loss_error"])
    assert record["numerics"]["list"] == [math.inf, 1.5]


def test_words_are_not_taken_for_numbers(tmp_path: Path) -> None:
    store = new_run(tmp_path, CASES, "command")
    store.append({"case_id": "a", "error": {"type": "ValueError", "message": "nan"}})
    assert open_run(store.directory).records()[0]["error"]["message"] == "nan"


@pytest.mark.parametrize(
    "garbage",
    [
        b'{"case_id": "b", "sta',
        '{"case_id": "b", "message": "漢'.encode()[:-1],  # in the middle of a character
        b"\0" * 100,  # what some file systems leave after a power cut
        b"\xff\xfe",
        b"[" * 100_000,
        b"12",
        b"null",
        b'["case_id"]',
        b'"case_id"',
        b'{"status": "ok"}',
        b"",
    ],
    ids=lambda garbage: repr(garbage[:12]),
)
def test_what_is_no_record(tmp_path: Path, garbage: bytes) -> None:
    """Neither in the middle of the file nor at its end, and it swallows nothing after it."""
    store = new_run(tmp_path, CASES, "command")
    store.append({"case_id": "a"})
    for record in ({"case_id": "b"}, {"case_id": "c"}):
        with (store.directory / "records.jsonl").open("ab") as file:
            file.write(garbage)
        opened = open_run(store.directory)
        assert opened.records()[-1]["case_id"] < record["case_id"]
        opened.append(record)
        assert opened.records()[-1] == record
    assert [record["case_id"] for record in open_run(store.directory).records()] == ["a", "b", "c"]


def test_full_disk_takes_no_half_record(tmp_path: Path) -> None:
    """A part of the line fits, and is taken back; the record goes where there is room."""
    store = new_run(tmp_path, CASES, "command")
    store.append({"case_id": "a"})
    path = store.directory / "records.jsonl"
    before = path.read_bytes()
    with _no_file_larger_than(len(before) + 20), pytest.raises(NotWrittenError) as caught:
        store.append({"case_id": "b" * 100})
    assert path.read_bytes() == before
    assert [record["case_id"] for record in store.records()] == ["a"]
    # The temporary directory takes as little: the record is in the message.
    message, line = str(caught.value).splitlines()
    assert message.startswith(f"{path} could not be written: File too large")
    assert json.loads(line) == {"case_id": "b" * 100}
    assert list(Path(tempfile.gettempdir()).glob(f"{store.run_id}-*")) == []
    store.append({"case_id": "b"})
    assert [record["case_id"] for record in open_run(store.directory).records()] == ["a", "b"]


def test_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_whole(path, b"before")
    with _no_file_larger_than(10), pytest.raises(OSError, match="too large"):
        write_whole(path, b"after" * 10)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_waits_for_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """Ctrl-C while a record is written takes effect when it is on the disk."""
    store = new_run(tmp_path, CASES, "command")
    through = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (signal.raise_signal(number), through(file)))
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            store.append({"case_id": "a"})
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)
    assert store.records() == open_run(store.directory).records() == [{"case_id": "a"}]


@pytest.mark.parametrize("removed", [".", "records.jsonl", "run.json", "lock"])
def test_what_is_removed_under_way_is_made_again(tmp_path: Path, removed: str) -> None:
    store = new_run(tmp_path / "results", CASES, "command")
    run = (store.directory / "run.json").read_bytes()
    store.append({"case_id": "a"})
    gone = store.directory / removed
    shutil.rmtree(tmp_path / "results") if removed == "." else gone.unlink()
    store.append({"case_id": "b"})
    assert (store.directory / "run.json").read_bytes() == run
    assert open_run(store.directory).records() == [{"case_id": "a"}, {"case_id": "b"}]
    with pytest.raises(HeldError):
        open_run(store.directory).hold()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    store = new_run(tmp_path, CASES, "command")
    found = newest_run(tmp_path, CASES)
    assert found is not None
    with pytest.raises(HeldError, match=f"process {os.getpid()} is at work on {store.directory}"):
        found.hold()


def test_lock_of_a_killed_process_is_waited_for(tmp_path: Path) -> None:
    """A child that it was starting has the lock until it runs a program of its own."""
    store = new_run(tmp_path, CASES, "command")
    lock = store._lock_file
    assert lock is not None
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{killed.pid}\n".encode(), 0)
    with subprocess.Popen(["sleep", "0.3"], pass_fds=[lock]):
        store.release()
        open_run(store.directory).hold()


def test_who_comes_second_sees_what_the_first_has_done(tmp_path: Path) -> None:
    """Between looking for a run and holding it, its process may have gone on and ended."""
    store = new_run(tmp_path, CASES, "command")
    copy = shutil.copytree(store.directory, tmp_path / "copy", ignore=lambda *_: ["lock"])
    second = open_run(copy)
    with (copy / "records.jsonl").open("w") as file:
        file.write('{"case_id": "a"}\n')
    second.hold()
    assert second.records() == [{"case_id": "a"}]


def test_two_runs_begun_in_the_same_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _set_clock(monkeypatch, hours=0)
    first, second = (new_run(tmp_path, CASES, "command") for _ in range(2))
    first.append({"case_id": "a"})
    assert (len(first.records()), len(second.records())) == (1, 0)
    assert second.run_id == f"{first.run_id}-2"


def test_unfinished_run_after_the_clock_has_stepped_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name is the older one; the finished run has the newer. Then both are finished."""
    stores: list[RunStore] = []
    for hours in (2, 1, 0):
        _set_clock(monkeypatch, hours)
        stores.append(new_run(tmp_path, CASES, "command"))
    finished, unfinished, empty = stores
    for case in ("a", "b"):
        finished.append({"case_id": case})
    unfinished.append({"case_id": "a"})
    assert _newest(tmp_path) == unfinished.directory
    unfinished.append({"case_id": "b"})
    assert _newest(tmp_path) == empty.directory
    shutil.rmtree(empty.directory)
    assert _newest(tmp_path) == finished.directory


def test_newest_run_of_the_same_cases(tmp_path: Path) -> None:
    first = new_run(tmp_path, [{"case_id": "a"}, {"case_id": "b"}], "command")
    second = new_run(tmp_path, [{"case_id": "a"}, {"case_id": "b"}], "command")
    new_run(tmp_path, [{"case_id": "a"}], "command")
    assert first.directory != second.directory
    found = newest_run(tmp_path, [{"case_id": "a"}, {"case_id": "b"}])
    assert found is not None
    assert found.directory == second.directory
    assert found.command == "command"
    assert newest_run(tmp_path, [{"case_id": "c"}]) is None


def test_open_run_is_told_a_folder_and_refuses_others(tmp_path: Path) -> None:
    store = new_run(tmp_path, [{"case_id": "a"}], "command")
    store.append({"case_id": "a"})
    opened = open_run(store.directory)
    assert (opened.run_id, opened.command) == (store.run_id, "command")
    assert opened.records() == [{"case_id": "a"}]
    (store.directory / "run.json").write_text('{"command": "cut sho')
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "run.json").write_text("[]")
    for directory in (tmp_path, tmp_path / "missing", store.directory, odd):
        with pytest.raises(ValueError, match=f"folder of a run, got {directory}"):
            open_run(directory)


@pytest.mark.parametrize(
    ("error", "status"), [(0.5e-6, "ok"), (2e-6, "mismatch"), (math.nan, "mismatch")]
)
@pytest.mark.parametrize("name", ["loss_error", "grad_hidden_error", "grad_weight_error"])
def test_judge(name: str, error: float, status: str) -> None:
    """Each figure is held to its own tolerance."""
    fine = dict.fromkeys(("loss_error", "grad_hidden_error", "grad_weight_error"), 1e-7)
    tolerance = dict.fromkeys(fine, 1e-3) | {name: 1e-6}
    assert judge(fine | {name: error, "tolerance": tolerance})[0] == status
    assert judge(None) == ("ok", None)


def _newest(output_dir: Path) -> Path:
    found = newest_run(output_dir, CASES)
    assert found is not None
    return found.directory


def _set_clock(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2025, 10, 26, 2, 30) + timedelta(hours=hours)

    monkeypatch.setattr(store_module, "datetime", Clock)


@contextlib.contextmanager
def _no_file_larger_than(size_bytes: int) -> Iterator[None]:
    """As on a full disk: a write takes what still fits, and the next one fails."""
    tempfile.gettempdir()  # looks for one that takes a file, the first time
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
