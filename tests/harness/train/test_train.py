"""`python -m harness.train`: four runs, their curves and bars, and what may go wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from harness.report.formats import MISSING
from harness.store import RunStore
from harness.train import __main__ as command
from harness.train import runs
from harness.train.agreement import comparisons
from harness.train.report import agreement_table, runs_table, write_report
from harness.train.runs import ERROR, OK, OOM, UNAVAILABLE, Combination
from tests.tables import slow

STEPS = 20
ALL = [Combination(framework, loss) for framework in ("torch", "jax") for loss in runs.LOSSES]


def made_up(combination: Combination, shift: float = 0.0, **changes: Any) -> dict[str, Any]:
    """A record as of a run in which everything went well."""
    is_standard = combination.loss == "standard"
    return {
        **combination.to_json({"steps": STEPS}),
        "started_at": "2026-01-01T00:00:00+00:00",
        "status": OK,
        "error": None,
        "train_loss": [9 * math.exp(-step / 30) * (1 + shift) for step in range(STEPS)],
        "step_s": [5.0, *[0.2 if is_standard else 0.1] * (STEPS - 1)],
        "held_out": [[STEPS - 1, 5.0 + shift]],
        "memory": {
            "state_bytes": 50 * 2**20,
            "peak_bytes": (800 if is_standard else 200) * 2**20,
            "probe": "a probe",
            "peak_bytes_by_probe": {"a probe": 200 * 2**20, "another": 210 * 2**20},
        },
        "recipe": {
            "steps": STEPS,
            "batch_size": 2,
            "length": 3,
            "vocab_size": 1000,
            "dim": 5,
            "layers": 1,
        },
        "sample": "The value of\nthe `thing`",
        "environment": {"versions": {combination.framework: "1.0"}},
        **changes,
    }


def failed(combination: Combination) -> dict[str, Any]:
    return made_up(
        combination, status=ERROR, error={"type": "exit status 1", "message": "why"}, recipe=None,
        train_loss=[9.0], step_s=[5.0], held_out=[], memory=None, sample=None,
    )  # fmt: skip


def without_memory(combination: Combination) -> dict[str, Any]:
    """As of a run whose process died after its last step."""
    return made_up(combination, memory=None, error={"type": "exit status -9", "message": "why"})


def test_curves_are_compared_in_pairs() -> None:
    shifts = {"torch chunked": 5e-5, "jax standard": 5e-4, "jax chunked": 7e-4}
    records = [made_up(each, shifts.get(each.name, 0.0)) for each in ALL]
    found = {each.title: (each.largest, each.holds) for each in comparisons(records)}
    assert found == {
        "PyTorch chunked against PyTorch standard": (pytest.approx(5e-5), True),
        "JAX chunked against JAX standard": (pytest.approx(2e-4, rel=1e-3), False),
        "JAX standard against PyTorch standard": (pytest.approx(5e-4), True),
        "JAX chunked against PyTorch chunked": (pytest.approx(6.5e-4, rel=1e-3), True),
    }
    words = [row[-1] for row in agreement_table(records).rows]
    assert words == ["", "too much", "", ""]


def test_one_step_that_is_off_is_enough() -> None:
    records = [made_up(each) for each in ALL[:2]]
    records[1]["train_loss"][7] *= 1.001
    (found,) = comparisons(records)
    assert found.largest == pytest.approx(1e-3)
    assert not found.holds


def test_a_curve_that_is_no_number_does_not_hold() -> None:
    records = [made_up(each) for each in ALL[:2]]
    records[1]["train_loss"][7] = math.nan
    assert not comparisons(records)[0].holds


def test_table_of_runs() -> None:
    records = [made_up(ALL[0]), made_up(ALL[1]), failed(ALL[2])]
    text = runs_table(records)
    standard, chunked, broken = (dict(zip(text.headers, row, strict=True)) for row in text.rows)
    assert standard["x standard"] == standard["of standard"] == "1.00"
    # Medians without the first step, which compiles.
    assert (chunked["step ms"], chunked["x standard"]) == ("100", "0.50")
    assert (chunked["peak MiB"], chunked["of standard"]) == ("200", "0.25")
    assert (chunked["state MiB"], chunked["2nd probe"]) == ("50.0", "210")
    assert broken["status"] == "error"


@pytest.mark.parametrize("count", [1, 2, 4])
def test_report_and_pictures(count: int, tmp_path: Path) -> None:
    records = [made_up(each, 1e-6 * rank) for rank, each in enumerate(ALL[:count])]
    report = write_report(records, tmp_path, "python -m harness.train")
    text = report.read_text()
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {"loss_curves.png", "step_memory.png"} | (
        {"loss_differences.png"} if count > 1 else set()
    )
    assert all(f"({name})" in text for name in drawn)
    assert "`The value of the thing`" in text
    assert "20 steps of 2 x 3 tokens, V=1,000" in text


def test_report_of_nothing_that_ended(tmp_path: Path) -> None:
    text = write_report([failed(each) for each in ALL], tmp_path, "c").read_text()
    assert text.count("exit status 1: why") == 4
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize("count", [1, 2])
def test_report_of_runs_without_memory(count: int, tmp_path: Path) -> None:
    """Everything else of them is shown, and that it is missing is said."""
    records = [without_memory(each) if n < count else made_up(each) for n, each in enumerate(ALL)]
    text = write_report(records, tmp_path, "c").read_text()
    first, second, *_ = runs_table(records).rows
    assert first[1:] == ("4.7774", "5.0000", "200", "1.00", *(MISSING,) * 4, "ok")
    assert second[5:7] == (("200", MISSING) if count == 1 else (MISSING, MISSING))
    assert text.count("PyTorch standard: `exit status -9: why`") == 1
    assert "Cases without a result" not in text
    assert len(comparisons(records)) == 4
    assert (tmp_path / "step_memory.png").exists()


def test_report_of_nothing_but_runs_without_memory(tmp_path: Path) -> None:
    write_report([without_memory(each) for each in ALL], tmp_path, "c")
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn == {"loss_curves.png", "loss_differences.png"}


@pytest.fixture
def nothing_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process holds its run for as long as it lives: this one goes on with its own."""
    monkeypatch.setattr(RunStore, "hold", RunStore.read)


@pytest.mark.usefixtures("nothing_is_held")
@pytest.mark.parametrize("losses", [["chunked"], pytest.param(["standard", "chunked"], marks=slow)])
def test_end_to_end_in_one_framework(
    losses: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real processes; then once more, which has nothing left to do."""
    flags = [
        "--framework=torch", f"--losses={','.join(losses)}", "--steps=3", "--batch_size=2",
        "--length=16", "--vocab_size=300", "--dim=16", "--layers=1", f"--output_dir={tmp_path}",
    ]  # fmt: skip
    assert command.main(flags) == 0
    (directory,) = tmp_path.iterdir()
    records = [json.loads(line) for line in (directory / "records.jsonl").read_text().splitlines()]
    assert [record["case_id"] for record in records] == [f"torch {loss}" for loss in losses]
    assert all(len(record["train_loss"]) == 3 for record in records)
    for memory in (record["memory"] for record in records):
        assert memory["probe"] == "torch allocator events"
        assert memory["peak_bytes"] > memory["state_bytes"] > 3 * 4 * 300 * 16  # with its moments
        assert memory["peak_bytes_by_probe"]["torch allocator events"] == memory["peak_bytes"]
    assert records[0]["environment"]["versions"]["torch"]
    assert "PyTorch chunked" in capsys.readouterr().out
    before = (directory / "records.jsonl").read_bytes()
    assert command.main([*flags, "--resume"]) == 0
    assert (directory / "records.jsonl").read_bytes() == before


def test_a_run_that_fails_is_a_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    flags = ["--framework=torch", "--losses=chunked", "--dim=17", f"--output_dir={tmp_path}"]
    assert command.main(flags) == 1
    printed = capfd.readouterr()
    words = "train_torch.py: error: --dim: expected a multiple of --heads=2, got 17"
    assert words in printed.err
    (directory,) = tmp_path.iterdir()
    assert words in (directory / "train.md").read_text()


@pytest.mark.usefixtures("nothing_is_held")
def test_interrupted_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended is not trained again, a failure is, and curves too far apart are a 1.

    Nor is a run trained again whose memory is missing: its child goes on from the last step.
    """
    trained: list[str] = []
    answers: list[Any] = [made_up(ALL[0]), failed(ALL[1]), without_memory(ALL[2])]
    answers.append(KeyboardInterrupt())

    def train(combination: Combination, *_: Any) -> dict[str, Any]:
        trained.append(combination.name)
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    monkeypatch.setattr(command, "train", train)
    flags = [f"--output_dir={tmp_path}", "--steps=20"]
    assert command.main(flags) == 130
    answers[:] = [made_up(ALL[1]), made_up(ALL[2]), made_up(ALL[3], 1e-2)]
    assert command.main([*flags, "--resume"]) == 1
    assert trained == [
        "torch standard", "torch chunked", "jax standard", "jax chunked",
        "torch chunked", "jax standard", "jax chunked",
    ]  # fmt: skip


def test_memory_that_is_missing_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, and the curves are judged."""
    monkeypatch.setattr(command, "train", lambda combination, *_: without_memory(combination))
    assert command.main([f"--output_dir={tmp_path}", "--steps=20"]) == 0
    assert "JAX chunked: `exit status -9: why`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--losses=cheap"], "--losses: expected a list of standard, chunked, got cheap"),
        (["--steps=0"], "--steps: expected a finite number > 0, got 0"),
        (["--resume"], "--resume: expected a run of the same cases under"),
        (["--framework=numpy"], "framework"),
        (["now"], "unexpected argument 'now'"),
    ],
)
def test_bad_flags(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([*flags, f"--output_dir={tmp_path}"]) == 2
    assert words in capsys.readouterr().err


class Done:
    """What `subprocess.run` returns."""

    def __init__(self, returncode: int, stderr: str = "") -> None:
        self.returncode, self.stderr = returncode, stderr


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is described with the help of processes, which are made up here."""
    monkeypatch.setattr(runs, "describe_host", lambda: {"versions": {}})


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, no_host: None) -> list[list[str]]:
    """Those that would have been started; each ends well and leaves nothing."""
    found: list[list[str]] = []

    def run(arguments: list[str], **_: Any) -> Done:
        found.append(arguments)
        return Done(0)

    monkeypatch.setattr(runs.subprocess, "run", run)
    return found


def test_a_run_that_has_begun_goes_on(tmp_path: Path, commands: list[list[str]]) -> None:
    """Also one that was killed before its first checkpoint."""
    assert runs.train(ALL[0], {}, tmp_path)["status"] == ERROR  # it left no last line
    (tmp_path / "torch_standard").mkdir()
    (tmp_path / "torch_standard" / "metrics.jsonl").write_text('{"step": -1, "recipe": {}}\n')
    runs.train(ALL[0], {"steps": 7}, tmp_path)
    assert ["--resume" in each for each in commands] == [False, True]
    assert "--steps=7" in commands[1]
    assert commands[1][3:5] == ["torch", str(tmp_path / "torch_standard" / "step_memory.json")]


def test_one_framework_alone(
    tmp_path: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "find_spec", lambda name: None if name == "flax" else name)
    record = runs.train(ALL[2], {}, tmp_path)
    assert (record["status"], record["error"]["message"]) == (UNAVAILABLE, "flax is not installed")
    assert not commands


@pytest.mark.usefixtures("no_host")
@pytest.mark.parametrize(
    ("returncode", "kills", "status"), [(1, 0, ERROR), (-9, 0, ERROR), (-9, 1, OOM)]
)
def test_what_became_of_a_run(
    returncode: int, kills: int, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill is for want of memory if the kernel says so, and a failure has its last words."""
    counts = iter([5, 5 + kills])
    monkeypatch.setattr(runs, "kernel_oom_kills", lambda: next(counts))
    done = Done(returncode, "Traceback\nValueError: of something\n\n")
    monkeypatch.setattr(runs.subprocess, "run", lambda *_, **__: done)
    record = runs.train(ALL[0], {}, tmp_path)
    assert record["status"] == status
    assert record["error"]["message"] == "ValueError: of something"


RECIPE = {"step": -1, "recipe": {}}
STEP = {"step": 0, "loss": 9.0, "step_s": 1.0}
LAST = {"step": 1, "median_step_s": 1.0, "tokens_per_s": 2.0, "sample": "The"}
FIGURES = {"state_bytes": 1, "peak_bytes": 2, "probe": "a", "peak_bytes_by_probe": {"a": 2}}


@pytest.mark.usefixtures("no_host")
@pytest.mark.parametrize(
    ("returncode", "kills", "measured", "words"),
    [
        (0, 0, True, None),
        (1, 0, False, "the run is complete; its process then failed, and said: MemoryError"),
        (-9, 0, False, "then failed"),
        (-9, 1, False, "then ran out of memory"),
        (-11, 0, True, "then failed"),
    ],
)
def test_a_complete_run_keeps_all_that_was_measured(
    returncode: int, kills: int, measured: bool, words: str | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its process may die over the memory of a step; figures of an earlier try do not count."""
    directory = tmp_path / "torch_standard"
    directory.mkdir()
    (directory / "step_memory.json").write_text(json.dumps(FIGURES | {"peak_bytes": 3}))
    counts = iter([5, 5 + kills])
    monkeypatch.setattr(runs, "kernel_oom_kills", lambda: next(counts))

    def run(*_: Any, **__: Any) -> Done:
        lines = map(json.dumps, (RECIPE, STEP, LAST))
        (directory / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
        if measured:
            (directory / "step_memory.json").write_text(json.dumps(FIGURES))
        return Done(returncode, "Traceback\nMemoryError")

    monkeypatch.setattr(runs.subprocess, "run", run)
    record = runs.train(ALL[0], {}, tmp_path)
    assert (record["status"], record["train_loss"], record["sample"]) == (OK, [9.0], "The")
    assert record["memory"] == (FIGURES if measured else None)
    if words is None:
        assert record["error"] is None
    else:
        assert words in record["error"]["message"]
        assert record["error"]["type"] == f"exit status {returncode}"
