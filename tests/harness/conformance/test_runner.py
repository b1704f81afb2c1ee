"""Each kind of verdict, earned by a loss made for it; that of a process, in a process."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from harness.conformance import runner
from harness.conformance.checks import RAISES, RIGHT, UNAVAILABLE, UNSUPPORTED, WRONG, Verdict
from harness.conformance.runner import (
    Implementation,
    device_environment,
    judge_cases,
    run_implementation,
    write_answers,
)

PLAIN, EMPTY, BIAS, LABEL = "float32, mean", "no token, mean", "bias", "label V"


def bad(name: str) -> Implementation:
    return Implementation("torch", name, f"tests.harness.conformance.bad_losses:{name}")


def judge_here(
    implementation: Implementation, cases: list[str], directory: Path
) -> dict[str, Verdict]:
    """In this process; the verdicts as they come out of the pipe."""
    assert list(write_answers(cases, directory)) == cases
    sent = pickle.loads(pickle.dumps(list(judge_cases(implementation, cases, directory))))
    return dict(zip(cases, sent, strict=True))


def judge_in_process(
    implementation: Implementation, cases: list[str], directory: Path
) -> dict[str, Verdict]:
    assert list(write_answers(cases, directory)) == cases
    return dict(run_implementation(implementation, cases, directory))


def test_wrong_gradient(tmp_path):
    verdict = judge_here(bad("wrong_gradient"), [PLAIN], tmp_path)[PLAIN]
    assert (verdict.status, verdict.detail) == (WRONG, "grad_weight 1.0e-04")
    assert verdict.errors["grad_weight"] == pytest.approx(1e-4, rel=1e-2)


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("wrong_prediction", "prediction: 1 of 15 tokens"),
        ("wrong_num_tokens", "num_tokens: 14, not 15"),
    ],
)
def test_wrong_aux(tmp_path, name, detail):
    assert judge_here(bad(name), ["return_aux"], tmp_path) == {"return_aux": Verdict(WRONG, detail)}


def test_option_that_is_not_there(tmp_path):
    verdict = judge_here(bad("wrong_gradient"), [BIAS, "weight [D, V]"], tmp_path)
    assert verdict[BIAS] == Verdict(UNSUPPORTED, "bias")
    assert verdict["weight [D, V]"] == Verdict(UNSUPPORTED, "vocab_axis")


def test_plausible_loss_of_a_bad_label(tmp_path):
    verdict = judge_here(bad("zero_where_it_should_refuse"), [LABEL, PLAIN], tmp_path)
    assert verdict[LABEL].status == WRONG
    assert verdict[PLAIN].status == RIGHT


def test_abort_is_one_verdict_and_the_others_go_on(tmp_path):
    verdict = judge_in_process(bad("aborting_without_tokens"), [PLAIN, EMPTY, "sum"], tmp_path)
    assert verdict[EMPTY] == Verdict(RAISES, "the process died: SIGABRT")
    assert verdict[PLAIN].status == RIGHT
    assert verdict["sum"] == Verdict(UNSUPPORTED, "reduction")


def test_hang_is_one_verdict_and_the_others_go_on(tmp_path, monkeypatch):
    cases = [EMPTY, PLAIN]
    list(write_answers(cases, tmp_path))
    verdicts = run_implementation(bad("sleeping_without_tokens"), cases, tmp_path)
    monkeypatch.setattr(runner, "TIMEOUT_S", 1.0)
    assert next(verdicts) == (EMPTY, Verdict(RAISES, "no answer in 1 s"))
    monkeypatch.undo()  # the next one has all the time that it needs
    name, verdict = next(verdicts)
    assert (name, verdict.status) == (PLAIN, RIGHT)
    assert list(verdicts) == []


def test_exception(tmp_path):
    verdict = judge_here(bad("raising"), [PLAIN, LABEL], tmp_path)
    assert verdict[PLAIN] == Verdict(RAISES, "ArithmeticError: this loss [does] not | work")
    assert verdict[LABEL] == Verdict(RIGHT, "refused: ArithmeticError")


def test_package_that_is_not_there(tmp_path):
    verdict = judge_here(bad("needing_what_is_not_there"), [PLAIN, LABEL], tmp_path)
    assert {cell.status for cell in verdict.values()} == {UNAVAILABLE}
    assert "no_such_package, which is not installed" in verdict[PLAIN].detail


def test_implementation_that_is_not_there(tmp_path):
    missing = Implementation("torch", "missing", "no_such_package:loss")
    verdicts = judge_here(missing, [PLAIN, BIAS], tmp_path)
    assert {verdict.status for verdict in verdicts.values()} == {UNAVAILABLE}


@pytest.mark.parametrize(
    ("framework", "words"),
    [("torch", "torch.cuda.is_available() is False"), ("jax", "jax.devices() has cpu only")],
)
def test_device_that_is_not_there(tmp_path, framework, words):
    """Nothing is judged on another device than the one that was asked for."""
    target = f"{framework}_impl:linear_cross_entropy"
    absent = Implementation(framework, "chunked", target, device="gpu")
    verdicts = judge_here(absent, [PLAIN, LABEL], tmp_path)
    expected = Verdict(UNAVAILABLE, f"device=gpu: {words}")
    assert verdicts == {PLAIN: expected, LABEL: expected}


def test_environment_of_a_device(monkeypatch):
    """No GPU is seen by what is judged on a CPU; on a GPU float32 is float32 in JAX as well."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=here")
    hidden = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    assert device_environment("cpu") == hidden
    seen = device_environment("gpu")
    assert not seen.keys() & hidden
    assert seen["JAX_DEFAULT_MATMUL_PRECISION"] == "highest"
    assert seen["XLA_FLAGS"].endswith(" --xla_dump_to=here")  # what the user says comes last


BROKEN = {
    "name that is not there": (
        "from math import no_such_name",
        "ImportError: cannot import name 'no_such_name' from 'math'",
    ),
    "attribute": ("import math\nmath.no_such_name", "AttributeError: module 'math' has no"),
    "shared library": ("raise OSError('libx.so: cannot open')", "OSError: libx.so: cannot open"),
    "function": ("", "AttributeError: module 'broken_peer' has no attribute 'loss'"),
    "only the first time": (
        "from pathlib import Path\ntried = Path(__file__).with_name('tried')\n"
        "if tried.exists(): raise KeyError('again')\n"
        "tried.touch()\nraise RuntimeError('at first')",
        "RuntimeError: at first",
    ),
}


@pytest.mark.parametrize("name", ["needing_what_is_broken", None], ids=["later", "at once"])
@pytest.mark.parametrize(("program", "reason"), BROKEN.values(), ids=BROKEN)
def test_package_that_is_broken(tmp_path, import_instead, name, program, reason):
    """As good as not there, with one reason for all cases; no refusal of a bad label."""
    import_instead({"broken_peer": program})
    target = "broken_peer:loss" if name is None else bad(name).target
    verdicts = judge_here(Implementation("torch", "peer", target), [PLAIN, LABEL, "sum"], tmp_path)
    assert {verdict.status for verdict in verdicts.values()} == {UNAVAILABLE}
    (detail,) = {verdict.detail for verdict in verdicts.values()}
    assert detail.startswith(f"broken_peer:loss cannot be imported: {reason}")


@pytest.mark.parametrize(("variant", "status"), [("liger", UNAVAILABLE), ("chunked", RAISES)])
def test_framework_that_is_broken(tmp_path, monkeypatch, variant, status):
    """A peer is not there then; of ours it is known at once, without a process for each case."""
    (tmp_path / "torch.py").write_text("raise OSError('libx.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    target = {"liger": "harness.variants.torch_peers:liger", "chunked": "torch_impl:no_loss"}
    implementation = Implementation("torch", variant, target[variant])
    verdicts = dict(run_implementation(implementation, [PLAIN, LABEL], tmp_path))
    expected = Verdict(status, "OSError: libx.so: cannot open")
    assert verdicts == {PLAIN: expected, LABEL: expected}


def test_optax_without_a_token_that_counts(tmp_path):
    """optax has no mean; that of its variant is ours, and no mistake of optax."""
    cases = ["every token ignored, mean", "no token, mean"]
    optax = Implementation("jax", "optax", "harness.variants.jax_peers:optax")
    verdicts = judge_here(optax, cases, tmp_path)
    assert {verdict.status for verdict in verdicts.values()} == {RIGHT}
