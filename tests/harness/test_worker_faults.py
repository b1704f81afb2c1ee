"""Whatever a worker does to itself: what it sent is kept, what it did not is not made up."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import record, scheduler
from harness.cases import BREAKING_POINT, SWEEP, Measurement, Shape, make_case
from harness.memory.oom_kills import kernel_oom_kills
from harness.reference import write_reference
from harness.scheduler import read_ended, run_case
from tests.harness.conftest import time_is_up_when

SHAPE = Shape(
    batch_size=2, seq_len=16, hidden_dim=8, vocab_size=96, dtype="float32",
    ignored_fraction=0.0, seed=0,
)  # fmt: skip
RunTarget = Callable[..., dict[str, Any]]


@pytest.fixture
def pid_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a broken loss says which process is to be gone afterwards."""
    path = tmp_path / "pid"
    monkeypatch.setenv("PID_FILE", str(path))
    return path


@pytest.fixture
def run_target(tmp_path: Path, pid_file: Path) -> RunTarget:
    """The record of a case with that loss from `broken_losses`."""

    def run(name: str, timeout_s: float = 60.0, mode: str = SWEEP) -> dict[str, Any]:
        measurement = Measurement(
            warmup=0, repeats=2, timeout_s=timeout_s, device="cpu", memory_limit_gib=None
        )
        case = make_case("torch", "standard", SHAPE, measurement, {}, mode=mode)
        case = dataclasses.replace(case, target=f"tests.harness.broken_losses:{name}")
        reference = tmp_path / "reference"
        reference.mkdir()
        write_reference(SHAPE, reference)
        return run_case(case, "run", {"versions": {}}, reference, tmp_path / "traces")

    return run


def test_worker_that_stops_itself(
    run_target: RunTarget, pid_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time_is_up_when(functools.partial(_is, "T", pid_file), monkeypatch)
    result = run_target("stopping", timeout_s=100.0)
    assert result["status"] == "timeout"
    assert result["error"]["message"] == "stopped after 100 s"
    assert result["timing"]["first_step_s"] > 0  # what was known before is kept
    assert result["numerics"] is None
    assert _is_gone(pid_file)


@pytest.mark.parametrize(
    ("name", "mode"), [("killed_at_exit", SWEEP), ("stopping_at_exit", BREAKING_POINT)]
)
def test_fault_after_everything_was_measured(
    run_target: RunTarget, pid_file: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
) -> None:
    time_is_up_when(functools.partial(_is, "T", pid_file), monkeypatch)
    result = run_target(name, mode=mode)
    assert (result["status"], result["error"]) == ("ok", None)
    assert result["timing"]["first_step_s"] > 0
    if mode == SWEEP:
        assert len(result["timing"]["step_s"]) == 2
        assert result["memory"]["peak_bytes"] > 0
        assert result["numerics"]["loss_error"] < 1e-5
    assert _is_gone(pid_file)


def test_what_a_dead_worker_has_started_is_killed_too(
    run_target: RunTarget, pid_file: Path
) -> None:
    result = run_target("killed_with_a_child", timeout_s=1000.0)
    assert result["wall_s"] < 500  # it does not wait for the child, which would sleep on
    assert (result["status"], result["error"]["message"]) == ("error", "killed by SIGKILL")
    assert _is_gone(pid_file)


def test_garbage_on_both_streams_is_left_alone(
    run_target: RunTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of megabytes the end is kept, in case the worker dies of it."""
    kept: list[int] = []
    run_worker = scheduler.run_worker

    def run_and_tell(*of_a_case: Any) -> scheduler.Ended:
        ended = run_worker(*of_a_case)
        kept.append(len(ended.output))
        return ended

    monkeypatch.setattr(scheduler, "run_worker", run_and_tell)
    assert run_target("printing_garbage", mode=BREAKING_POINT)["status"] == "ok"
    assert kept == [pytest.approx(65536, abs=1024)]


@pytest.mark.parametrize(
    ("name", "is_here"), [("aborting_after_garbage", False), ("raising_in_colour", True)]
)
def test_what_a_program_says_is_printable(
    request: pytest.FixtureRequest, run_target: RunTarget, name: str, is_here: bool
) -> None:
    if is_here:
        request.getfixturevalue("workers_here")
    result = run_target(name)
    assert result["status"] == "error"
    message = result["error"]["message"]
    assert all(character.isprintable() or character == "\n" for character in message), message
    message.encode()
    assert len(message) < 5000
    assert "\\x1b[" in message


def test_garbled_results_are_no_result(run_target: RunTarget) -> None:
    """The section behind half a line is lost with it: nobody can say that the case is ok."""
    result = run_target("garbling_results")
    assert result["status"] == "error"
    assert result["error"]["type"] == "Garbled"
    assert result["timing"] is None
    assert result["numerics"]["loss_error"] < 1e-5  # what can be read is kept


def test_one_line_that_cannot_be_read_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = b'{"section": "timing", "val\n{"section": "finished", "value": true}\n'
    monkeypatch.setattr(scheduler, "run_worker", lambda *_: read_ended(sent, 0, b""))
    measurement = Measurement(
        warmup=0, repeats=2, timeout_s=60.0, device="cpu", memory_limit_gib=None
    )
    case = make_case("torch", "standard", SHAPE, measurement, {})
    result = run_case(case, "run", {"versions": {}}, None, tmp_path)
    assert result["error"] == {
        "type": "Garbled",
        "message": "unreadable lines in what the worker sent: 1",
    }


@pytest.mark.parametrize(
    ("name", "timeout_s", "step_s", "status"),
    [
        # The parent's clock leaps ahead: no timeout.
        ("setting_the_clock_back", 600.0, 3600.0, "ok"),
        # It steps back: the timeout comes all the same.
        ("sleeping", 1.0, -3600.0, "timeout"),
    ],
)
def test_timeout_is_not_by_the_clock_on_the_wall(
    run_target: RunTarget,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    timeout_s: float,
    step_s: float,
    status: str,
) -> None:
    _step_the_clock(step_s, monkeypatch)
    assert run_target(name, timeout_s, BREAKING_POINT)["status"] == status


@pytest.mark.usefixtures("workers_here")
def test_durations_are_not_by_the_clock_on_the_wall(
    run_target: RunTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    _step_the_clock(-3600.0, monkeypatch)  # and that of the worker, by its loss
    result = run_target("setting_the_clock_back")
    timing = result["timing"]
    for seconds in (timing["first_step_s"], *timing["step_s"], *timing["forward_s"]):
        assert 0 < seconds < 600
    assert 0 < result["wall_s"] < 600


def test_worker_that_cannot_be_started(
    run_target: RunTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    result = run_target("wrong")
    assert (result["status"], result["error"]["type"]) == ("error", "NoWorker")


@pytest.mark.parametrize(("counts", "status"), [([3, 4], "oom"), ([3, 3], "error")])
def test_kill_by_the_kernel_is_told_apart(
    run_target: RunTarget, monkeypatch: pytest.MonkeyPatch, counts: list[int], status: str
) -> None:
    left = iter(counts)
    killed = scheduler.read_ended(b"", -signal.SIGKILL, b"")
    monkeypatch.setattr(scheduler, "kernel_oom_kills", lambda: next(left))
    monkeypatch.setattr(scheduler, "run_worker", lambda *_: killed)
    assert run_target("killed")["status"] == status


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 0),
        ({"proc/vmstat": "pgfault 9\noom_kill 2\n"}, 2),
        (
            {
                "proc/vmstat": "oom_kill 2\n",
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.events": "oom 8\noom_kill 5\noom_group_kill 0\n",
            },
            5,
        ),
        (
            {
                "proc/vmstat": "oom_kill 2\n",
                "proc/self/cgroup": "4:memory:/a\n0::/our/group\n",
                "sys/fs/cgroup/memory.events": "oom_kill 5\n",
                "sys/fs/cgroup/our/group/memory.events": "oom_kill 7\n",
            },
            7,
        ),
    ],
)
def test_whose_kills_are_counted(tmp_path: Path, files: dict[str, str], count: int) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert kernel_oom_kills(tmp_path) == count


def test_printable() -> None:
    assert record.printable("a\tb\nñ 漢\x1b[0m\x00\u202e") == "a\tb\nñ 漢\\x1b[0m\\x00\\u202e"


def _step_the_clock(step_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """By so much whenever it is read."""
    steps = itertools.count(time.time(), step_s)
    monkeypatch.setattr(time, "time", lambda: next(steps))


def _is(state: str, pid_file: Path) -> bool:
    """Whether the process is in that state: T is stopped, Z a zombie."""
    try:
        stat = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text()
    except (OSError, ValueError):  # not there, or not yet, or no more
        return False
    return stat.rpartition(")")[2].split()[0] == state


def _is_gone(pid_file: Path) -> bool:
    """Gone, or a zombie that whoever has inherited it will fetch."""
    process = Path(f"/proc/{int(pid_file.read_text())}")
    deadline = time.monotonic() + 10
    while process.exists() and not _is("Z", pid_file):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
