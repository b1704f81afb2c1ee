"""Mistakes in what becomes of a case: the worker, its record, the store, the search."""

from __future__ import annotations

from tests.breakages.breakage import Breakage

_STORE = "tests/harness/test_store.py"
_WORKER_FAULTS = "tests/harness/test_worker_faults.py"
_STATUSES = "tests/harness/test_statuses.py"
_INTERRUPT = "tests/harness/test_interrupt.py"
_BREAKING_POINT = "tests/harness/test_breaking_point.py"
_ENVIRONMENT = "tests/harness/test_worker_environment.py"

BREAKAGES = (
    # On the disk.
    Breakage(
        "records: a NaN becomes null",
        "harness/json_lines.py",
        "return repr(value)",
        "return None",
        _STORE,
    ),
    Breakage(
        "records: a message that is the word nan becomes a number",
        "harness/json_lines.py",
        'item if key == "message" else _from_json(item)',
        "_from_json(item)",
        _STORE,
    ),
    Breakage(
        "records: a line that was cut short garbles the next one",
        "harness/durable.py",
        'line if _ends_a_line(file) else b"\\n" + line',
        "line",
        _STORE,
    ),
    Breakage(
        "records: a full disk keeps half a line",
        "harness/durable.py",
        "                file.truncate(size)\n",
        "                file.flush()\n",
        _STORE,
    ),
    Breakage(
        "records: a file is rewritten in place",
        "harness/durable.py",
        'part = path.with_name(f"{path.name}.part")',
        "part = path",
        _STORE,
    ),
    Breakage(
        "records: an interrupt may lose what was measured",
        "harness/store.py",
        "        with held_back():\n",
        "        if held_back:\n",
        _STORE,
    ),
    Breakage(
        "store: two processes may be at work on a run",
        "harness/store.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        _STORE,
    ),
    Breakage(
        "store: a run whose process was killed a moment ago is refused",
        "harness/store.py",
        "if _is_running(holder) or",
        "if holder or",
        _STORE,
    ),
    Breakage(
        "store: who comes second does not see what the first has done",
        "harness/store.py",
        "        self._lock()\n        self.read()",
        "        self._lock()",
        _STORE,
    ),
    Breakage(
        "store: two runs of the same second share a folder",
        "harness/store.py",
        "            directory.mkdir()\n",
        "            directory.mkdir(exist_ok=True)\n",
        _STORE,
    ),
    Breakage(
        "store: the newest run is taken, finished or not",
        "harness/store.py",
        "            if not store.is_finished():\n",
        "            if store.cases:\n",
        _STORE,
    ),
    Breakage(
        "store: records that someone has removed are not written again",
        "harness/store.py",
        "if self._lines and not (self.directory / _RECORDS).exists():",
        "if not self._lines and not (self.directory / _RECORDS).exists():",
        _STORE,
    ),
    # Resuming.
    Breakage(
        "resume: what has a record is run again",
        "harness/sweep.py",
        "left = [case for case in cases if case.case_id not in done]",
        "left = list(cases)",
        _INTERRUPT,
    ),
    Breakage(
        "cases: under another memory limit it is the same case",
        "harness/cases.py",
        '            *([f"limit{limit:g}gib"] if limit is not None else []),\n',
        "",
        "tests/harness/test_modes.py",
    ),
    # Statuses.
    Breakage(
        "status: running out of memory is an error",
        "harness/worker.py",
        "if isinstance(error, MemoryError) or is_out_of_memory(error):",
        "if isinstance(error, MemoryError):",
        _STATUSES,
    ),
    Breakage(
        "status: a loss that is not a number counts as fitting",
        "harness/measure.py",
        "if not math.isfinite(loss):",
        "if math.isinf(loss):",
        _BREAKING_POINT,
    ),
    Breakage(
        "status: a time-out is an error",
        "harness/scheduler.py",
        'return record.TIMEOUT, {"type": "Timeout"',
        'return record.ERROR, {"type": "Timeout"',
        _STATUSES,
    ),
    Breakage(
        "status: a kill by the kernel for want of memory is an error",
        "harness/scheduler.py",
        "    if killed_for_memory:\n",
        "    if killed_for_memory and ended.output:\n",
        _WORKER_FAULTS,
    ),
    Breakage(
        "status: results that cannot be read in full are ok",
        "harness/scheduler.py",
        "        if ended.unreadable:\n",
        "        if ended.unreadable > 1:\n",
        _WORKER_FAULTS,
    ),
    Breakage(
        "status: what nothing could be held against is ok",
        "harness/sweep.py",
        'if isinstance(reference, str) and result["status"] == record.OK:',
        'if reference is None and result["status"] == record.OK:',
        _STATUSES,
    ),
    Breakage(
        "exit status: one case that ended well is enough",
        "harness/sweep.py",
        'return 0 if all(result["status"]',
        'return 0 if any(result["status"]',
        _STATUSES,
    ),
    # Workers.
    Breakage(
        "worker: what it has started outlives it",
        "harness/scheduler.py",
        "os.killpg(process.pid, signal.SIGKILL)",
        "process.kill()",
        _WORKER_FAULTS,
    ),
    Breakage(
        "worker: it outlives its parent",
        "harness/orphan.py",
        "libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)",
        "libc.prctl(_PR_SET_PDEATHSIG, 0)",
        _INTERRUPT,
    ),
    Breakage(
        "worker: a case on a CPU sees the GPU",
        "harness/scheduler.py",
        '{"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}',
        '{"JAX_PLATFORMS": "cpu"}',
        _ENVIRONMENT,
    ),
    Breakage(
        "worker: JAX may take less of a GPU than the limit",
        "harness/scheduler.py",
        "min(limit * 2**30 / total, 1.0)",
        "min(limit * 10**9 / total, 1.0)",
        _ENVIRONMENT,
    ),
    # The search for the breaking point.
    Breakage(
        "search: it ends a third away from the breaking point",
        "harness/breaking_point.py",
        "if smallest <= largest * (1 + TOLERANCE)",
        "if smallest <= largest * (1 + 7 * TOLERANCE)",
        _BREAKING_POINT,
    ),
    Breakage(
        "search: it has found a limit, however its last worker ended",
        "harness/breaking_point.py",
        'ended = last["status"] in (record.OK, record.OOM)',
        "ended = True",
        _BREAKING_POINT,
    ),
    Breakage(
        "search: its record has the plan of the last size and not of the largest that ran",
        "harness/breaking_point.py",
        "best = tried[max(ran)] if ran else last",
        "best = last",
        _BREAKING_POINT,
    ),
    Breakage(
        "search: what is known is tried again",
        "harness/breaking_point.py",
        "found = known.get(probe.case_id)",
        "found = known.get(case.case_id)",
        _BREAKING_POINT,
    ),
    Breakage(
        "search: its sizes are recorded when it has ended",
        "harness/sweep.py",
        "for result in _records(case, measure, store):",
        "for result in list(_records(case, measure, store)):",
        _BREAKING_POINT,
    ),
)
