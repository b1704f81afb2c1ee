"""`python -m harness.compare` as a CI runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.compare.__main__ import main
from harness.report.formats import MISSING
from harness.store import new_run
from tests.harness.compare.records import (
    ENVIRONMENT,
    MIB,
    make_breaking_point,
    make_floor,
    make_memory,
    make_record,
    times,
)
from tests.harness.conftest import ROOT

EVIDENCE = sorted(
    path.parent
    for path in (ROOT / "results").rglob("run.json")
    if not {"conformance", "train", "causal_lm", "h100-compiled"} & {*path.parts}
    and not path.relative_to(ROOT).parts[1].isdecimal()
)
GOOD = [make_floor(), make_record(), make_record("b"), make_record("long-" * 20)]


@pytest.fixture
def folder_of(tmp_path):
    """Writes a run of the records, returns its folder as the command line takes it."""

    def write(records) -> str:
        store = new_run(tmp_path, [], "command")
        for each in records:
            store.append(each)
        return str(store.directory)

    return write


def changed(**changes):
    return [make_floor(), make_record(**changes), *GOOD[2:]]


@pytest.mark.parametrize(
    ("new", "status", "summary"),
    [
        (GOOD, 0, "3 cases compared: 0 slower, 0 larger, 3 the same within the noise"),
        (changed(step_s=times(1.2)), 1,
         "3 cases compared: 1 slower, 0 larger, 2 the same within the noise"),
        (changed(step_s=times(1.2), memory=make_memory(20 * MIB)), 1,
         "3 cases compared: 1 slower, 1 larger, 2 the same within the noise"),
        (changed(step_s=times(0.8)), 0,
         "3 cases compared: 0 slower, 0 larger, 1 faster, 2 the same within the noise"),
        (changed(status="oom"), 1,
         "3 cases compared: 1 broke, 0 slower, 0 larger, 2 the same within the noise"),
        (changed(step_s=[9.0] * 3), 0,
         "3 cases compared: 0 slower, 0 larger, 2 the same within the noise, "
         "1 not judged or in part only"),
        (GOOD[:2], 1,
         "1 case compared: 0 slower, 0 larger, 1 the same within the noise, 2 missing"),
    ],
)  # fmt: skip
def test_exit_status_and_summary(folder_of, capsys, new, status, summary):
    assert main([folder_of(GOOD), folder_of(new)]) == status
    assert capsys.readouterr().out.splitlines()[-1] == summary


@pytest.mark.parametrize(
    ("gone", "flags", "status"),
    [("ok", [], 1), ("oom", [], 1), ("unavailable", [], 0), ("ok", ["--allow_missing"], 0)],
)
def test_a_case_that_the_new_run_lacks_fails_unless_it_could_not_run(
    folder_of, capsys, gone, flags, status
):
    old = folder_of([*GOOD, make_record("gone", status=gone)])
    assert main([old, folder_of(GOOD), *flags]) == status
    said = capsys.readouterr().out
    assert "in the old run only:\n  torch-chunked-gone (cpu)\n" in said
    assert said.rstrip().endswith("1 missing") == (gone != "unavailable")
    assert main([folder_of(GOOD), folder_of([*GOOD, make_record("new")])]) == 0


def test_allow_missing_accepts_no_regression(folder_of):
    new = [make_floor(), make_record(step_s=times(1.2))]
    assert main([folder_of(GOOD), folder_of(new), "--allow_missing"]) == 1


def test_the_table_has_regressions_first_and_fits_the_log_of_a_ci(folder_of, capsys):
    old = [make_floor(0.5), *GOOD[1:]]
    new = [
        make_floor(0.5),
        make_record(step_s=times(0.8)),
        make_record("b", status="error"),
        make_record("long-" * 20, step_s=times(1.2)),
    ]
    assert main([folder_of(old), folder_of(new)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    shown = (" broke", " slower", " faster")
    rows = [" ".join(line.split()) for line in lines if line.startswith(shown)]
    assert rows[0] == f"broke status ok error {MISSING} {MISSING} torch-chunked-b"
    assert rows[1].startswith("slower step 1,000 ms 1,200 ms +20.0 % 2.00 -> 2.40 torch-chunked-lo")
    assert rows[2].startswith("faster step 1,000 ms 800 ms -20.0 % 2.00 -> 1.60 torch-chunked-a")


def test_what_was_not_compared_is_listed(folder_of, capsys):
    old = [make_record("gone"), make_record(step_s=[1.0] * 3), make_record("b")]
    new = [
        make_record("fresh", device="gpu"),
        make_record(),
        make_record("b", status="unavailable"),
    ]
    assert main([folder_of(old), folder_of(new)]) == 1, "one is missing"
    said = capsys.readouterr().out
    few = "not judged, step time: 3 and 5 steps are too few for p < 0.01 (--repeats=5 is enough)"
    for title, name in (
        (few, "torch-chunked-a"),
        ("not judged, the case: was ok, is unavailable", "torch-chunked-b"),
        ("in the old run only", "torch-chunked-gone (cpu)"),
        ("in the new run only", "torch-chunked-fresh (gpu)"),
    ):
        assert f"{title}:\n  {name}\n" in said


@pytest.mark.parametrize(
    ("change", "line", "warned"),
    [
        ({}, "", ""),
        ({"git_revision": "def5678"}, "git revision: abc1234 -> def5678", ""),
        ({"versions": {"torch": "2.14.0"}}, "torch: 2.13.0 -> 2.14.0", ""),
        ({"threads": 8}, "threads: 2 -> 8", "threads"),
        ({"gpu": "Example GPU"}, f"GPU: {MISSING} -> Example GPU", "GPU"),
        ({"cpu": {"model": "Other CPU", "cores": 4}}, "CPU: Example CPU, 4 cores -> Other", "CPU"),
    ],
)
def test_differences_of_environment(folder_of, capsys, change, line, warned):
    of_the_run = {"run_id": "later", "started_at": "2026-02-02T00:00:00+00:00"}
    new = [each | of_the_run | {"environment": ENVIRONMENT | change} for each in GOOD]
    new[-1]["status"] = "unavailable"  # what became of the cases is no fact of the machine
    assert main([folder_of(GOOD), folder_of(new)]) == 0
    said = capsys.readouterr().out
    assert line in said
    assert "measured:" not in said
    assert ("->" in said) == bool(line)
    warnings = [each for each in said.splitlines() if each.startswith("warning")]
    expected = f"warning: not the same {warned}: differences in time mean little"
    assert warnings == ([expected] if warned else [])


def test_the_drift_of_the_machine_is_said(folder_of, capsys):
    assert main([folder_of(GOOD), folder_of([make_floor(1.2), *GOOD[1:]])]) == 0
    assert "floor: 1.20 x the old run's" in capsys.readouterr().out
    assert main([folder_of(GOOD[1:]), folder_of(GOOD)]) == 0
    assert "no floor in both runs" in capsys.readouterr().out
    searched = folder_of([make_breaking_point(1000, 1050)])
    assert main([searched, searched]) == 0
    assert "floor" not in capsys.readouterr().out, "where nothing is timed"


@pytest.mark.parametrize("run", EVIDENCE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_run_is_the_same_as_itself(run, capsys):
    assert main([str(run), str(run)]) == 0
    assert ": 0 slower, 0 larger, " in capsys.readouterr().out


def test_flags_may_follow_the_folders(folder_of):
    runs = [folder_of(GOOD), folder_of(changed(step_s=times(1.2)))]
    assert main([*runs, "--threshold_percent=30"]) == 0
    assert main(["--threshold_percent=10", *runs]) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ("expected two folders of runs, OLD NEW", "0")),
        (["{run}"], ("expected two folders of runs, OLD NEW", "1")),
        (["{run}", "{run}", "{run}"], ("expected two folders of runs, OLD NEW", "3")),
        (["missing", "{run}"], ("OLD: expected the folder of a run", "missing")),
        (["{run}", "missing"], ("NEW: expected the folder of a run", "missing")),
        (["{run}", "{other}"], ("NEW: expected records of harness.run", "{other}")),
        (["{run}", "{empty}"], ("OLD, NEW: expected runs that have a case in common", "{empty}")),
        (["{run}", "{run}", "--threshold_percent=0"], ("--threshold_percent", "> 0", "0")),
        (["{run}", "{run}", "--threshold_percent=few"], ("threshold_percent", "few")),
        (["{run}", "{run}", "--no_such_flag=1"], ("no_such_flag",)),
    ],
)
def test_unusable_arguments(folder_of, capsys, arguments, words):
    of_training = {"case_id": "jax chunked", "framework": "jax", "loss": "chunked"}
    folders = {
        "run": folder_of(GOOD), "empty": folder_of([]), "other": folder_of([of_training])
    }  # fmt: skip
    assert main([each.format(**folders) for each in arguments]) == 2
    said = capsys.readouterr()
    (line,) = said.err.strip().splitlines()
    assert line.startswith("harness.compare: ")
    assert all(word.format(**folders) in line for word in words), line
    assert said.out == ""


def test_help(capsys):
    assert main(["--help"]) == 0
    assert "--threshold_percent" in capsys.readouterr().out


def test_as_a_process_without_a_framework_or_plots(folder_of):
    program = (
        "import sys; from harness.compare.__main__ import main; status = main(sys.argv[1:]); "
        "sys.exit(70 if {'jax', 'torch', 'matplotlib'} & sys.modules.keys() else status)"
    )
    runs = [folder_of(GOOD), folder_of(changed(step_s=times(1.2)))]
    for command in (["-c", program], ["-m", "harness.compare"]):
        done = subprocess.run(
            [sys.executable, *command, *runs],
            capture_output=True,
            text=True,
            cwd=Path(ROOT),
            timeout=120,
        )
        assert done.returncode == 1, done.stderr
        assert "1 slower" in done.stdout
