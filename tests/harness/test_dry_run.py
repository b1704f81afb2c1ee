"""`--dry_run`: what would run, what it needs, what will not fit; nothing runs, none is written."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import harness.prediction.run as prediction_run
from harness.cases import ANATOMY, BREAKING_POINT, SWEEP, Case, Measurement, Shape, make_case
from harness.dry_run import show_dry_run
from harness.prediction.memory import limit_bytes, peak_bytes
from harness.prediction.run import predict_cases
from harness.report.formats import rough_duration
from harness.run import main

SHAPE = Shape(
    batch_size=4,
    seq_len=512,
    hidden_dim=512,
    vocab_size=32768,
    dtype="float32",
    ignored_fraction=0.0,
    seed=0,
)
MEASUREMENT = Measurement(warmup=1, repeats=5, timeout_s=600, device="cpu", memory_limit_gib=1.0)
FLOPS_PER_S = 1e11


@pytest.fixture(autouse=True)
def _known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on every machine; nothing has to be multiplied for it."""
    monkeypatch.setattr(prediction_run, "flops_per_s", lambda device, dtype: FLOPS_PER_S)


def case(variant: str = "standard", framework: str = "torch", **changes: Any) -> Case:
    limit_gib, timeout_s = changes.pop("memory_limit_gib", 1.0), changes.pop("timeout_s", 600)
    sizes = {name: changes.pop(name) for name in asdict(SHAPE) if name in changes}
    shape = replace(SHAPE, **sizes)
    measurement = replace(MEASUREMENT, memory_limit_gib=limit_gib, timeout_s=timeout_s)
    return make_case(framework, variant, shape, measurement, {}, **changes)


def shown(*cases: Case, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    assert show_dry_run(console, cases) == 0
    assert isinstance(console.file, io.StringIO)
    return [line.strip() for line in console.file.getvalue().splitlines()]


def line_of(one: Case) -> list[str]:
    """What stands behind its name."""
    name = [one.framework, one.variant]
    (words,) = [words for line in shown(one) if (words := line.split())[:2] == name]
    return words[2:]


@pytest.mark.parametrize("framework", ["torch", "jax"])
@pytest.mark.parametrize("variant", ["standard", "chunked", "two_pass", "floor", "stream"])
def test_line_of_a_case_says_what_it_needs(framework: str, variant: str) -> None:
    one = case(variant, framework)
    peak, limit, *_ = line_of(one)
    needed = peak_bytes(one)
    assert needed is not None
    assert (peak, limit) == (f"{needed / 2**20:,.0f}", "1,024")


@pytest.mark.parametrize("spare_bytes", [-1, 0])
@pytest.mark.parametrize("variant", ["standard", "chunked"])
def test_what_will_not_fit_is_marked(variant: str, spare_bytes: int) -> None:
    needed = peak_bytes(case(variant))
    assert needed is not None
    one = case(variant, memory_limit_gib=(needed + spare_bytes) / 2**30)
    *lines, last = shown(one)
    fits = spare_bytes >= 0
    assert any(line.endswith("will not fit") for line in lines) != fits
    assert ("1 will not fit" in last) != fits


@pytest.mark.parametrize(
    "changes", [{}, {"mode": ANATOMY}, {"variant": "floor"}, {"variant": "stream"}], ids=str
)
@pytest.mark.parametrize("spare_s", [-0.1, 0.1])
def test_what_will_not_end_in_time_is_marked(changes: dict[str, Any], spare_s: float) -> None:
    (prediction, _) = predict_cases([case(**changes)])[0]
    one = case(**changes, timeout_s=prediction.seconds + spare_s)
    *_, last = shown(one)
    note = "longer than --timeout_s"
    assert (note in " ".join(line_of(one))) == (f"; 1 {note};" in last) == (spare_s < 0)


@pytest.mark.parametrize("spare_s", [-0.1, 0.1])
def test_reference_that_will_not_end_in_time_fails_each_case_of_its_shape(spare_s: float) -> None:
    """Of many tokens, so that it takes longer than one step or two of a case itself."""
    measured = replace(MEASUREMENT, timeout_s=3 * 6 * 2048 * 32768 * 512 / FLOPS_PER_S + spare_s,
                       warmup=0, repeats=1)  # fmt: skip
    variants = ("floor", "standard", "two_pass")
    lines = shown(*(make_case("torch", name, SHAPE, measured, {}) for name in variants))
    marked = [line.split()[1] for line in lines if line.endswith("its reference is longer"
                                                                 " than --timeout_s")]  # fmt: skip
    assert marked == (["standard", "two_pass"] if spare_s < 0 else [])


def test_search_that_meets_a_size_that_takes_too_long() -> None:
    """Each size has the timeout to itself; one that does not fit ends early."""
    search = {"mode": BREAKING_POINT, "axis": "vocab_size"}
    largest = int(" ".join(line_of(case(**search))).rpartition(" ")[2].replace(",", ""))
    longest_s = predict_cases([case(mode=ANATOMY, vocab_size=largest)])[0][0].seconds
    assert "will end at about" in " ".join(line_of(case(**search, timeout_s=longest_s)))
    assert "longer than --timeout_s" in " ".join(line_of(case(**search, timeout_s=4.0)))


def test_marked_cases_are_counted() -> None:
    cases = [case(variant, vocab_size=size) for size in (8192, 65536)
             for variant in ("standard", "chunked")]  # fmt: skip
    *lines, last = shown(*cases)
    (marked,) = [line for line in lines if "will not fit" in line]
    assert marked.split()[:3] == ["torch", "standard", "65,536"]
    assert last.startswith("4 cases, ")
    assert last.endswith("in all; 1 will not fit; nothing was run")


@pytest.mark.parametrize("peer", ["liger", "quack"])
def test_peer_that_cannot_run_here_says_why(peer: str) -> None:
    one = case(peer)
    assert line_of(one)[-1] == "unavailable"
    lines = shown(one, case(peer, vocab_size=8192))
    assert lines.count(f"{peer}: {one.not_on_cpu}") == 1
    assert not any("will not fit" in line for line in lines)


def test_nothing_is_claimed_of_a_loss_of_which_nothing_is_known() -> None:
    peak, _, *rest = line_of(case("linear_cross_entropy_chunked"))
    assert peak == "?"
    assert "fit" not in " ".join(rest)


@pytest.mark.parametrize("axis", ["vocab_size", "num_tokens"])
@pytest.mark.parametrize("limit_gib", [0.25, 1.0])
@pytest.mark.parametrize("variant", ["standard", "chunked"])
def test_search_says_where_it_will_end(variant: str, limit_gib: float, axis: str) -> None:
    one = case(variant, mode=BREAKING_POINT, axis=axis, memory_limit_gib=limit_gib)
    note = " ".join(line_of(one)).partition("will end at about ")[2]
    found = int(note.replace(",", ""))
    for size, fits in ((found, True), (round(found * 1.06), False)):
        needed = peak_bytes(one.probe(size))
        assert needed is not None
        assert (needed <= limit_bytes(one)) == fits
    assert "will not fit" not in shown(one)[-1], "a search shrinks until a size fits"


def test_search_of_which_no_size_fits_will_not_fit() -> None:
    one = case(mode=BREAKING_POINT, axis="vocab_size", memory_limit_gib=1e-4)
    *_, last = shown(one)
    assert "will not fit" in " ".join(line_of(one))
    assert "1 will not fit" in last


def test_search_of_a_loss_of_which_nothing_is_known() -> None:
    one = case("linear_cross_entropy_chunked", mode=BREAKING_POINT, axis="vocab_size")
    assert "nothing is known of its memory" in " ".join(line_of(one))


def test_anatomy_is_predicted_with_fewer_steps() -> None:
    (_, swept_s), (_, dissected_s) = predict_cases([case(), case(mode=ANATOMY)])
    assert dissected_s < swept_s


def test_reference_is_worked_out_once_a_shape() -> None:
    def seconds(*cases: Case) -> list[float]:
        return [seconds for _, seconds in predict_cases(cases)]

    reference_s = 3 * 6 * 2048 * 32768 * 512 / FLOPS_PER_S
    alone = seconds(case("two_pass"))[0]
    _, after, other = seconds(case(), case("two_pass"), case("two_pass", vocab_size=8192))
    assert alone - after == pytest.approx(reference_s)
    assert seconds(case("two_pass", vocab_size=8192))[0] == pytest.approx(other)
    for yardstick in ("floor", "stream"):
        _, after = seconds(case(yardstick), case())
        assert after == seconds(case())[0], "it has no answer to be held against"


def test_reference_is_for_sweeps_and_for_what_can_run() -> None:
    for one in (case("liger"), case(mode=ANATOMY)):
        (first, again) = predict_cases([one, one])
        assert first == again
    assert case().mode == SWEEP


def test_no_name_is_cut_off_in_a_narrow_terminal() -> None:
    name = "linear_cross_entropy_chunked"
    cases = [case(name, vocab_size=size) for size in (2**30, 2**29)]
    assert sum(name in line and "1,073,741,824" in line for line in shown(*cases, width=40)) == 1


@pytest.mark.parametrize(
    ("changes", "heads", "shared"),
    [
        ([{}], [], "N=2,048, D=512, V=32,768, float32"),
        ([{}, {"vocab_size": 8192}], ["V"], "N=2,048, D=512, float32"),
        ([{}, {"dtype": "bfloat16"}], ["dtype"], "N=2,048, D=512, V=32,768"),
        ([{}, {"seq_len": 8, "hidden_dim": 64}], ["N", "D"], "V=32,768, float32"),
        ([{"mode": BREAKING_POINT, "axis": "vocab_size"}], [],
         "N=2,048, D=512, V from 32,768, float32"),
        ([{"mode": BREAKING_POINT, "axis": "num_tokens"}], [],
         "N from 2,048, D=512, V=32,768, float32"),
    ],
)  # fmt: skip
def test_what_all_share_stands_above(
    changes: list[dict[str, Any]], heads: list[str], shared: str
) -> None:
    first, _, head, *_ = shown(*(case(**each) for each in changes))
    assert first == shared
    assert head.split()[:-5] == ["framework", "variant", *heads]


def test_cases_that_differ_have_different_names() -> None:
    shape, measured = SHAPE, MEASUREMENT
    cases = [
        make_case("torch", "one_pass", shape, measured, {"token_chunk": 64}),
        make_case("torch", "one_pass", shape, measured, {"token_chunk": 128}),
        make_case("torch", "standard", shape, measured, {}),
        make_case("torch", "standard", shape, measured, {}, is_repetition=True),
    ]
    lines = [line for line in shown(*cases) if line.startswith("torch")]
    for line, name in zip(
        lines,
        ["one_pass token_chunk=64 ", "one_pass token_chunk=128 ", "standard ", "standard again "],
        strict=True,
    ):
        assert line.removeprefix("torch").strip().startswith(name)
    assert "again" not in lines[2]


def test_peak_of_less_than_a_mebibyte() -> None:
    """Not "0": 8 x 8 hidden, 64 x 8 weight, labels, and three times 8 x 64 logits."""
    one = case(batch_size=1, seq_len=8, hidden_dim=8, vocab_size=64)
    assert peak_bytes(one) == 4 * (64 + 512 + 8 + 3 * 512)
    assert line_of(one)[0] == "0.0081"


def test_stream_needs_its_weight_twice_and_hardly_any_time() -> None:
    """The labels are there too; it does nothing to the logits."""
    one = case("stream", batch_size=1, seq_len=8, hidden_dim=8, vocab_size=64)
    assert peak_bytes(one) == 4 * (64 + 2 * 512 + 8)
    (_, stream_s), (_, floor_s) = predict_cases([case("stream"), case("floor")])
    steps_s = 7 * 20 * 2 * 4 * 32768 * 512 / FLOPS_PER_S * 1.35
    assert stream_s == pytest.approx(4.0 + steps_s)
    assert stream_s < floor_s / 3


def test_search_has_no_peak_of_its_own() -> None:
    one = case(mode=BREAKING_POINT, axis="vocab_size")
    assert line_of(one)[0] == "1,024", "the limit comes first"


@pytest.mark.parametrize(
    "flags",
    [("--variants=all",), ("--variants=all", "--preset=llama3_8b"),
     ("--variants=all", "--mode=breaking_point"), ("--vocab_chunk=8192", "--token_chunk=1024")],
    ids=" ".join,
)  # fmt: skip
def test_table_fits_a_terminal(flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry_run", "--device=cpu", *flags]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 120


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "1 s"),
        (0.4, "1 s"),
        (40.4, "40 s"),
        (89.4, "89 s"),
        (90.0, "2 min"),
        (180.0, "3 min"),
        (5399.0, "90 min"),
        (5400.0, "1.5 h"),
        (9000.0, "2.5 h"),
        (360000.0, "100.0 h"),
    ],
)
def test_rough_duration(seconds: float, words: str) -> None:
    assert rough_duration(seconds) == words


def test_all_in_all_is_the_sum() -> None:
    cases = [case("standard"), case("chunked", "jax")]
    total_s = sum(seconds for _, seconds in predict_cases(cases))
    assert f"2 cases, {rough_duration(total_s)} in all; nothing was run" == shown(*cases)[-1]


@pytest.mark.parametrize(
    "flags",
    [(), ("--mode=anatomy",), ("--mode=breaking_point", "--memory_limit_gib=0.5")],
    ids=["sweep", "anatomy", "search"],
)
def test_nothing_is_written(
    flags: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--dry_run", "--preset=smoke", "--variants=all", *flags]) == 0
    assert capsys.readouterr().out.strip().endswith("nothing was run")
    assert not list(tmp_path.iterdir())
