"""Each kind of verdict, earned in a process of its own by a loss made for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.conformance import runner
from harness.conformance.checks import RAISES, RIGHT, UNAVAILABLE, UNSUPPORTED, WRONG, Verdict
from harness.conformance.runner import Implementation, run_implementation, write_answers

PLAIN, EMPTY, BIAS, LABEL = "float32, mean", "no token, mean", "bias", "label V"


def judge_all(name: str, cases: list[str], directory: Path) -> dict[str, Verdict]:
    target = f"tests.harness.conformance.bad_losses:{name}"
    assert list(write_answers(cases, directory)) == cases
    return dict(run_implementation(Implementation("torch", name, target), cases, directory))


def test_wrong_gradient(tmp_path):
    verdict = judge_all("wrong_gradient", [PLAIN], tmp_path)[PLAIN]
    assert (verdict.status, verdict.detail) == (WRONG, "grad_weight 1.0e-04")
    assert verdict.errors["grad_weight"] == pytest.approx(1e-4, rel=1e-2)


def test_option_that_is_not_there(tmp_path):
    verdict = judge_all("wrong_gradient", [BIAS, "weight [D, V]"], tmp_path)
    assert verdict[BIAS] == Verdict(UNSUPPORTED, "bias")
    assert verdict["weight [D, V]"] == Verdict(UNSUPPORTED, "vocab_axis")


def test_plausible_loss_of_a_bad_label(tmp_path):
    verdict = judge_all("zero_where_it_should_refuse", [LABEL, PLAIN], tmp_path)
    assert verdict[LABEL].status == WRONG
    assert verdict[PLAIN].status == RIGHT


def test_abort_is_one_verdict_and_the_others_go_on(tmp_path):
    verdict = judge_all("aborting_without_tokens", [PLAIN, EMPTY, "sum"], tmp_path)
    assert verdict[EMPTY] == Verdict(RAISES, "the process died: SIGABRT")
    assert verdict[PLAIN].status == RIGHT
    assert verdict["sum"] == Verdict(UNSUPPORTED, "reduction")


def test_hang_is_one_verdict_and_the_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "TIMEOUT_S", 15.0)
    cases = [EMPTY, PLAIN]
    verdict = judge_all("sleeping_without_tokens", cases, tmp_path)
    assert verdict[EMPTY] == Verdict(RAISES, "no answer in 15 s")
    assert verdict[PLAIN].status == RIGHT


def test_exception(tmp_path):
    verdict = judge_all("raising", [PLAIN, LABEL], tmp_path)
    assert verdict[PLAIN] == Verdict(RAISES, "ArithmeticError: this loss [does] not | work")
    assert verdict[LABEL] == Verdict(RIGHT, "refused: ArithmeticError")


def test_package_that_is_not_there(tmp_path):
    verdict = judge_all("needing_what_is_not_there", [PLAIN, LABEL], tmp_path)
    assert {cell.status for cell in verdict.values()} == {UNAVAILABLE}
    assert "no_such_package, which is not installed" in verdict[PLAIN].detail


def test_implementation_that_is_not_there(tmp_path):
    missing = Implementation("torch", "missing", "no_such_package:loss")
    verdicts = [verdict for _, verdict in run_implementation(missing, [PLAIN, BIAS], tmp_path)]
    assert [verdict.status for verdict in verdicts] == [UNAVAILABLE, UNAVAILABLE]
