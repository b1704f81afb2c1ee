"""The folder of a run, and its records on disk before the next case starts."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.durable import append_line, write_elsewhere, write_whole
from harness.interrupts import held_back
from harness.json_lines import line_of, object_in

_RECORDS = "records.jsonl"
_RUN = "run.json"
_LOCK = "lock"
_RELEASED_WITHIN_S = 2.0


class HeldError(OSError):
    """Another process is at work on the run; the message says which."""


class NotWrittenError(Exception):
    """The disk did not take a record; the message says where it is, and how to put it back."""


class RunStore:
    """One run: `run.json` says what was asked for, `records.jsonl` what came of it.

    Whoever appends holds the run. What is on disk is also kept in memory, so that a folder
    that is removed under way can be made again.
    """

    def __init__(self, directory: Path, run: dict[str, Any]) -> None:
        self.directory = directory
        self.run_id = directory.name
        self.command: str = run["command"]
        self._run = run
        self._lines: list[bytes] = []
        self._lock_file: int | None = None

    def append(self, record: dict[str, Any]) -> None:
        """Writes the record through to the disk; raises `NotWrittenError` if that fails."""
        line = line_of(record)
        path = self.directory / _RECORDS
        with held_back():
            try:
                self.restore()
                append_line(path, line)
            except OSError as error:
                raise NotWrittenError(_brought_to_safety(path, self.run_id, line, error)) from error
            self._lines.append(line)

    def records(self) -> list[dict[str, Any]]:
        """All whole records; a line that a kill has cut short is not one."""
        return [record for line in self._lines if (record := _record_in(line)) is not None]

    def is_finished(self) -> bool:
        """Whether each of its cases has a record."""
        asked = {case["case_id"] for case in self._run["cases"]}
        return asked <= {record["case_id"] for record in self.records()}

    def is_of(self, cases: Sequence[dict[str, Any]]) -> bool:
        """Whether the run is of exactly these cases, measured in the same way."""
        return self.cases == list(cases)

    @property
    def cases(self) -> list[dict[str, Any]]:
        """What was asked for."""
        return self._run.get("cases") or []

    def hold(self) -> None:
        """Keeps all others from appending; raises `HeldError` where one of them does already."""
        self._lock()
        self.read()  # the one before us may have appended since

    def release(self) -> None:
        """Lets others append; the end of this process does so, too, however it ends."""
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def read(self) -> None:
        """Takes what is on disk for what there is."""
        path = self.directory / _RECORDS
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        self._lines = [line + b"\n" for line in lines if _record_in(line) is not None]

    def restore(self) -> None:
        """Makes again what someone has removed; raises `OSError` where that cannot be."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not (self.directory / _RUN).exists():
            write_whole(self.directory / _RUN, json.dumps(self._run, indent=1).encode() + b"\n")
        if self._lines and not (self.directory / _RECORDS).exists():
            write_whole(self.directory / _RECORDS, b"".join(self._lines))
        if not (self.directory / _LOCK).exists():
            self._lock()

    def _lock(self) -> None:
        lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take(lock)
        except OSError:
            os.close(lock)
            raise
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self.release()  # of a file that somebody has removed
        self._lock_file = lock

    def _take(self, lock: int) -> None:
        """Raises `HeldError` where a process is at work.

        A killed process may have been starting a child, which shares the lock until it runs a
        program of its own. That takes milliseconds, so the lock of a dead process is waited for.
        """
        deadline = time.monotonic() + _RELEASED_WITHIN_S
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
                if _is_running(holder) or time.monotonic() > deadline:
                    raise HeldError(f"process {holder} is at work on {self.directory}") from None
            time.sleep(0.01)


def _is_running(process_id: str) -> bool:
    """Whether there is such a process on this machine; unknown counts as running."""
    try:
        os.kill(int(process_id), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        pass
    return True


def new_run(output_dir: Path, cases: Sequence[dict[str, Any]], command: str) -> RunStore:
    """Makes the folder, named by the time; raises `OSError` where that cannot be."""
    output_dir.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{count}" for count in range(2, 100))):
        directory = output_dir / (stamp + suffix)
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        store = RunStore(directory, {"command": command, "cases": list(cases)})
        store.restore()
        return store
    raise FileExistsError(f"{output_dir / stamp} and 98 more exist")


def open_run(directory: Path) -> RunStore:
    """The run whose folder that is; raises `ValueError` where it is none."""
    try:
        run = json.loads((directory / _RUN).read_bytes())
        store = RunStore(directory, run)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"expected the folder of a run, got {directory} ({error})") from error
    store.read()
    return store


def runs_in(output_dir: Path) -> Iterator[RunStore]:
    """All that are there, the newest first."""
    for path in sorted(output_dir.glob(f"*/{_RUN}"), reverse=True):
        try:
            store = open_run(path.parent)
        except ValueError:  # no run of ours
            continue
        yield store


def newest_run(output_dir: Path, cases: Sequence[dict[str, Any]]) -> RunStore | None:
    """The newest run of exactly these cases, measured in the same way; unfinished ones first.

    The time in the name does not tell which was interrupted: clocks step back, if only once
    a year by an hour.
    """
    finished = None
    for store in runs_in(output_dir):
        if store.is_of(cases):
            if not store.is_finished():
                return store
            finished = finished or store
    return finished


def _record_in(line: bytes) -> dict[str, Any] | None:
    found = object_in(line)
    return found if found is not None and "case_id" in found else None


def _brought_to_safety(path: Path, run_id: str, line: bytes, error: OSError) -> str:
    """Writes the record elsewhere, or else into the message; says how to put it back."""
    failed = f"{path} could not be written: {error.strerror or error}. The record that it did not"
    elsewhere = write_elsewhere(run_id, line)
    if elsewhere is None:
        return (
            f"{failed} take is the next line: make room and append it to that file.\n"
            f"{line.decode().rstrip()}"
        )
    put_back = f"cat {shlex.quote(str(elsewhere))} >> {shlex.quote(str(path))}"
    return f"{failed} take is in {elsewhere}: make room and put it back with `{put_back}`."
