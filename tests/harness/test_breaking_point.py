"""The search for the breaking point: ends within 5 %, tries nothing twice, tells how it ended."""

from __future__ import annotations

import math
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import harness.sweep
from harness import breaking_point
from harness.breaking_point import next_size, search
from harness.cases import BREAKING_POINT, Case, Measurement, Shape, make_case
from harness.record import new_record
from harness.store import new_run, open_run
from tests.harness.conftest import Finished, RunHarness

LOSSES = "tests.harness.broken_losses"
MOST_LOGITS = 150 * 1024

SHAPE = Shape(
    batch_size=2, seq_len=16, hidden_dim=8, vocab_size=100, dtype="float32",
    ignored_fraction=0.0, seed=0,
)  # fmt: skip
MEASUREMENT = Measurement(warmup=0, repeats=1, timeout_s=60.0, device="cpu", memory_limit_gib=1.0)
CASE = make_case(
    "torch", "standard", SHAPE, MEASUREMENT, {}, mode=BREAKING_POINT, axis="vocab_size"
)


class Machine:
    """Runs what is no larger than `largest`; what is in `otherwise` ends in that status."""

    def __init__(self, largest: int, otherwise: dict[int, str] | None = None) -> None:
        self.largest = largest
        self.otherwise = otherwise or {}
        self.tried: list[int] = []

    def __call__(self, case: Case) -> dict[str, Any]:
        size = case.shape.vocab_size
        self.tried.append(size)
        result = new_record(case, "run")
        result["status"] = self.otherwise.get(size, "ok" if size <= self.largest else "oom")
        if result["status"] != "ok":
            result["error"] = {"type": "Error", "message": "no", "allocation": "of 1 MiB"}
        result["device"] = "cpu"
        result["plan"] = {"of": size}
        return result


@given(largest=st.integers(1, 2**30), start=st.integers(1, 2**24))
def test_the_search_ends_within_five_percent(largest: int, start: int) -> None:
    ran: list[int] = []
    failed: list[int] = []
    while (size := next_size(ran, failed, start)) is not None:
        assert size not in ran + failed
        (ran if size <= largest else failed).append(size)
    assert max(ran) <= largest < min(failed)
    assert min(failed) <= max(max(ran) * 1.05, max(ran) + 1)
    # Doublings (or halvings) from the start, and four or five bisections.
    doublings = abs(math.log2(largest / start))
    assert len(ran) + len(failed) <= doublings + 9


def test_nothing_that_can_be_indexed_fails_or_runs() -> None:
    assert next_size([2**31 - 1], [], 1) is None
    assert next_size([], [1], 1) is None
    assert next_size([], [7], 7) == 3


def results(machine: Machine, known: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    return list(search(CASE, known or {}, machine, "run"))


@pytest.mark.parametrize("largest", [940, 970, 1000, 1030])
def test_the_record_has_the_plan_of_the_largest_that_ran(largest: int) -> None:
    *_, conclusion = results(Machine(largest))
    assert conclusion["plan"] == {"of": conclusion["breaking_point"]["largest_ran"]}


def test_both_ends_and_all_that_was_tried_are_in_the_record() -> None:
    machine = Machine(largest=1000)
    *probes, conclusion = results(machine)
    assert [probe["vocab_size"] for probe in probes] == machine.tried
    assert machine.tried[:5] == [100, 200, 400, 800, 1600]
    assert all(probe["breaking_point"] is None for probe in probes)
    assert len({probe["case_id"] for probe in probes} | {conclusion["case_id"]}) == len(probes) + 1
    found = conclusion["breaking_point"]
    assert conclusion["case_id"] == CASE.case_id
    assert conclusion["status"] == "ok"
    assert conclusion["error"] is None
    assert found["largest_ran"] <= 1000 < found["smallest_failed"] <= found["largest_ran"] * 1.05
    assert conclusion["vocab_size"] == found["largest_ran"]
    assert found["failure"]["allocation"] == "of 1 MiB"
    assert [each["size"] for each in found["tried"]] == machine.tried
    assert {each["status"] for each in found["tried"]} == {"ok", "oom"}


@pytest.mark.parametrize("status", ["error", "timeout", "mismatch", "unavailable"])
def test_any_other_failure_ends_the_search_and_is_no_breaking_point(status: str) -> None:
    machine = Machine(largest=1000, otherwise={400: status})
    *_, conclusion = results(machine)
    assert machine.tried == [100, 200, 400]
    assert conclusion["status"] == status
    assert conclusion["error"]["message"] == "no"
    assert conclusion["breaking_point"]["largest_ran"] == 200
    assert conclusion["breaking_point"]["smallest_failed"] is None
    assert conclusion["breaking_point"]["failure"]["message"] == "no"


def test_a_search_in_which_nothing_runs() -> None:
    machine = Machine(largest=0)
    *_, conclusion = results(machine)
    assert machine.tried == [100, 50, 25, 12, 6, 3, 1]
    assert conclusion["status"] == "oom"
    assert conclusion["breaking_point"]["largest_ran"] is None
    assert conclusion["breaking_point"]["smallest_failed"] == 1


def test_what_is_known_is_not_tried_again() -> None:
    whole = results(Machine(largest=1000))
    known = {record["case_id"]: record for record in whole[:4]}
    machine = Machine(largest=1000)
    rest = results(machine, known)
    assert [record["case_id"] for record in whole[4:]] == [record["case_id"] for record in rest]
    assert machine.tried == [record["vocab_size"] for record in whole[4:-1]]
    assert rest[-1]["breaking_point"] == whole[-1]["breaking_point"]


def test_tokens_grow_in_a_batch_of_one() -> None:
    probe = make_case(
        "jax", "chunked", SHAPE, MEASUREMENT, {}, mode=BREAKING_POINT, axis="num_tokens"
    ).probe(999)
    assert (probe.shape.batch_size, probe.shape.seq_len, probe.shape.vocab_size) == (1, 999, 100)
    assert probe.axis == ""


def test_an_interrupted_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(largest=1000)

    def interrupted(case: Case, *_: object) -> dict[str, Any]:
        if len(machine.tried) == 6:
            raise KeyboardInterrupt
        return machine(case)

    monkeypatch.setattr(harness.sweep, "run_case", interrupted)
    shown: list[int] = []

    def run(store: Any) -> int:
        console = Console(file=StringIO())
        return harness.sweep.run_sweep(
            [CASE], store, console, lambda found, *_: shown.append(len(found))
        )

    store = new_run(tmp_path, [CASE.to_json()], "command")
    assert run(store) == 130
    assert not open_run(store.directory).is_finished()
    monkeypatch.setattr(harness.sweep, "run_case", lambda case, *_: machine(case))
    assert run(store) == 0
    records = open_run(store.directory).records()
    assert len(machine.tried) == len(set(machine.tried)) == len(records) - 1
    assert records[-1]["breaking_point"]["largest_ran"] <= 1000
    assert open_run(store.directory).is_finished()
    assert shown == [6, len(records)]


LIMITED = (
    "--mode=breaking_point", "--memory_limit_gib=0.1", "--batch_size=4", "--seq_len=256",
    "--hidden_dim=64", "--vocab_sizes=8192", "--variants=standard",
)  # fmt: skip


def check_limit(done: Finished, copies: int, tolerance: float) -> None:
    """Logits of [1024, V] in 0.1 GiB: the standard breaks where they and their copies fill it."""
    assert done.status == 0, done.stdout + done.stderr
    *probes, conclusion = done.records
    statuses = {probe["vocab_size"]: probe["status"] for probe in probes}
    found = conclusion["breaking_point"]
    assert set(statuses.values()) == {"ok", "oom"}
    assert statuses[found["largest_ran"]] == "ok"
    assert statuses[found["smallest_failed"]] == "oom"
    assert found["smallest_failed"] <= (1 + tolerance) * found["largest_ran"]
    logits_alone = 0.1 * 2**30 / (copies * 1024 * 4)
    assert 0.6 * logits_alone < found["largest_ran"] < logits_alone
    for probe in probes:
        if probe["status"] == "oom":
            assert probe["error"]["allocation"]
    assert done.directory is not None
    assert (done.directory / "breaking_point_vocab_size.png").exists()
    assert f"{found['largest_ran']:,}" in (done.directory / "summary.md").read_text()


def test_breaking_point_for_real(run_harness: RunHarness) -> None:
    check_limit(run_harness(*LIMITED, "--framework=torch"), copies=3, tolerance=0.05)


def test_breaking_point_of_jax(
    run_parent_here: RunHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as close, so that fewer workers must start."""
    monkeypatch.setattr(breaking_point, "TOLERANCE", 0.5)
    check_limit(run_parent_here(*LIMITED, "--framework=jax"), copies=2, tolerance=0.5)


SEARCH = (
    "--mode=breaking_point", "--memory_limit_gib=0.1", "--batch_size=4", "--seq_len=256",
    "--hidden_dim=8", "--vocab_sizes=1024",
)  # fmt: skip


def test_breaking_point_in_tokens(run_here: RunHarness) -> None:
    """1024 tokens are too many at V = 1024: it halves, then bisects."""
    done = run_here(
        *SEARCH, "--axis=num_tokens", "--framework=torch", "--variants=limited",
        variants={"limited": f"{LOSSES}:refused_memory_for_many_logits"},
    )  # fmt: skip
    assert done.status == 0, done.stdout + done.stderr
    *probes, conclusion = done.records
    assert [probe["seq_len"] for probe in probes[:5]] == [1024, 512, 256, 128, 181]
    assert {probe["vocab_size"] for probe in probes} == {1024}
    assert {probe["batch_size"] for probe in probes} == {1}
    assert probes[0]["status"] == "oom"
    found = conclusion["breaking_point"]
    assert found["axis"] == "num_tokens"
    most = MOST_LOGITS // 1024
    assert found["largest_ran"] <= most < found["smallest_failed"] <= 1.05 * found["largest_ran"]
    assert (conclusion["batch_size"], conclusion["seq_len"]) == (1, found["largest_ran"])
    assert done.directory is not None
    assert (done.directory / "breaking_point_num_tokens.png").exists()


HIDING = {
    framework: f"tests.harness.{module}:hiding_the_limit"
    for framework, module in (("torch", "broken_losses"), ("jax", "broken_jax_losses"))
}
DYING = {framework: target.replace("hiding", "dying_of") for framework, target in HIDING.items()}


@pytest.mark.parametrize(
    ("how", "targets"), [("run_here", HIDING), ("run_parent_here", DYING)], ids=["hides", "dies"]
)
def test_what_runs_without_the_limit_has_run_out_of_memory(
    request: pytest.FixtureRequest, how: str, targets: dict[str, str]
) -> None:
    """Whatever it says, and however it ends."""
    done = request.getfixturevalue(how)(
        *SEARCH, "--vocab_sizes=1", "--variants=broken", variants={"broken": targets}
    )
    assert [(record["framework"], record["status"]) for record in done.records] == [
        (framework, "oom") for framework in ("torch", "jax") for _ in ("probe", "conclusion")
    ], done.stdout
    assert all(record["error"]["allocation"] for record in done.records)
    assert done.status == 0


@pytest.mark.parametrize(
    ("how", "target", "status", "words"),
    [
        ("run_here", "raising", "error", "this loss [does] not work"),
        ("run_here", "not_a_number", "mismatch", "expected a finite loss, got nan"),
        ("run_parent_here", "killed", "error", "killed by SIGKILL"),
        # No limit kills: somebody else has.
        ("run_parent_here", "killed_under_a_limit", "error", "killed by SIGKILL"),
    ],
)
def test_a_loss_that_fails_otherwise_has_no_breaking_point(
    request: pytest.FixtureRequest, how: str, target: str, status: str, words: str
) -> None:
    done = request.getfixturevalue(how)(
        *SEARCH, "--framework=torch", "--variants=broken",
        variants={"broken": f"{LOSSES}:{target}"},
    )  # fmt: skip
    assert done.status == 1
    probe, conclusion = done.records
    assert probe["status"] == conclusion["status"] == status
    assert conclusion["breaking_point"]["largest_ran"] is None
    assert words in done.stdout
