"""`python -m harness.report`: from folders of runs to a report, without a framework."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.report.__main__ import main
from harness.report.run import names_apart

ROOT = Path(__file__).parents[3]
# Whatever the machine has: what must not be needed cannot be imported.
FORBIDDING = """
import sys

class Forbidden:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "jax", "jaxlib", "flax", "optax"):
            raise ModuleNotFoundError(f"{name} is forbidden", name=name)

sys.meta_path.insert(0, Forbidden())
from harness.report.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def make_run(tmp_path):
    """Writes the folder of a run and returns its path."""

    def make(name, records, command="python -m harness.run"):
        directory = tmp_path / name
        directory.mkdir(parents=True)
        (directory / "run.json").write_text(json.dumps({"command": command, "cases": []}))
        lines = "".join(f"{json.dumps(record)}\n" for record in records)
        (directory / "records.jsonl").write_text(lines)
        return directory

    return make


def rows_of(summary):
    """The rows of the first table as {header: cell}."""
    table = summary[summary.index("\n| ") + 1 :].partition("\n\n")[0]
    headers, _, *rows = [line.strip("| ").split(" | ") for line in table.splitlines()]
    return [dict(zip(headers, row, strict=True)) for row in rows]


def test_one_run_is_drawn_again_in_place_without_a_framework(make_run, sweep):
    directory = make_run("one", sweep((8192,)), command="python -m harness.run --seed=3")
    (directory / "report.html").write_text("old")
    records = (directory / "records.jsonl").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FORBIDDING, directory], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["report", str(directory / "report.html")]
    assert "error / tolerance" in (directory / "report.html").read_text()
    summary = (directory / "summary.md").read_text()
    assert "python -m harness.run --seed=3" in summary
    assert "| run |" not in summary.partition("## Environment")[0]
    assert (directory / "records.jsonl").read_bytes() == records
    assert not (directory / "tune.md").exists()


def test_several_runs_are_one_report_and_never_compared_with_each_other(make_run, sweep, tmp_path):
    sizes = (8192, 16384)
    first = make_run("a/float32", sweep(sizes, device="cpu"), command="python -m one")
    # Far faster, without a standard for PyTorch: that of the other run is none of its own.
    quick = [
        record | {"timing": record["timing"] | {"step_s": [0.001]}}
        for record in sweep(sizes, device="gpu")
        if (record["framework"], record["variant"]) != ("torch", "standard")
    ]
    second = make_run("b/float32", quick, command="python -m two")
    out = tmp_path / "out"
    assert main([str(first), str(second), f"--output_dir={out}"]) == 0
    summary = (out / "summary.md").read_text()
    rows = rows_of(summary)
    runs = ["a/float32", "b/float32"]
    assert [row["run"] for row in rows[:2]] == runs, "the same case of both, in their order"
    assert {row["device"] for row in rows} == {"cpu", "gpu"}
    assert len({(row["framework"], row["variant"], row["V"]) for row in rows[:2]}) == 1
    for row in rows:
        if row["run"] == runs[1]:
            has_standard = row["framework"] == "jax"
            assert row["x standard"] == ("1.00" if has_standard else "\u2013")
            assert row["x floor"] == "1.00", "of its own run, in which all take as long"
        elif row["variant"] == "standard":
            assert row["x standard"] == "1.00"
    for name in ("peak_memory", "additional_memory", "step_time", "time_memory_tradeoff"):
        for run in ("a-float32_cpu", "b-float32_gpu"):
            assert f"({name}_{run}.png)" in summary
    assert "# a/float32\npython -m one\n# b/float32\npython -m two\n" in summary
    environment = summary.partition("## Environment")[2]
    assert "|  | a/float32 | b/float32 |" in environment
    assert "| measured | 12 cases: 12 ok | 10 cases: 10 ok |" in environment


def test_merged_report_has_a_new_folder_under_results(make_run, sweep, tmp_path, monkeypatch):
    runs = [str(make_run(name, sweep((8192,)))) for name in ("a", "b")]
    monkeypatch.chdir(tmp_path)
    assert main(runs) == 0
    (merged,) = (tmp_path / "results").iterdir()
    assert merged.name.endswith("-merged")
    assert (merged / "report.html").is_file()


def test_tuning_run_has_its_tables_drawn_again_as_well(make_run, sweep):
    directory = make_run("tuned", sweep((8192,)), command="python -m harness.tune --seed=1")
    assert main([str(directory)]) == 0
    assert "The frontier" in (directory / "tune.md").read_text()
    assert (directory / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected one folder of a run or more, got none"),
        (["missing"], "expected the folder of a run, got missing"),
        (["good", "missing"], "expected the folder of a run, got missing"),
        (["good", "./good"], "expected each run once, got good again"),
        (["empty"], "expected records of harness.run or harness.tune in empty, got none"),
        (["alien"], "in alien, got one without dtype, batch_size"),
        (["good", "--output_dir=good/run.json"], "expected folders that can be read and written"),
        (["good", "--colour=red"], "Unknown command line flag 'colour'"),
    ],
)
def test_unusable_input_is_one_line(
    make_run, sweep, tmp_path, monkeypatch, capsys, arguments, message
):
    make_run("good", sweep((8192,)))
    make_run("empty", [])
    alien = {"case_id": "a", "framework": "torch", "variant": "chunked", "status": "right"}
    make_run("alien", [alien])
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("directories", "names"),
    [
        (["/r/a", "/r/b"], ["a", "b"]),
        (["/r/x/a", "/r/y/a"], ["x/a", "y/a"]),
        (["/r/x/a", "/r/y/a", "/r/y/b"], ["x/a", "y/a", "b"]),
        (["/a", "/r/a"], ["a", "r/a"]),
    ],
)
def test_names_are_as_short_as_sets_them_apart(directories, names):
    assert names_apart([Path(directory) for directory in directories]) == names
