"""The frontier of a tuning run, its tables and its picture, from records made by hand."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.report.frontier import tunings
from harness.report.frontier_plot import draw_frontier
from harness.report.tune import WHY_NOTE, frontier_tables, write_tune

MIB = 2**20


@pytest.fixture
def tile(make_record):
    """A record of ours: `tile("one_pass", 64, 8192, workspace_mib=2, step_ms=10)`."""

    def make(
        strategy, token_chunk, vocab_chunk, *, workspace_mib, step_ms, budget_mib=None, auto=False,
        predicted_mib=None, framework="torch", **changes,
    ):  # fmt: skip
        variant = "chunked" if auto or budget_mib else strategy
        record = make_record(
            framework,
            variant,
            options={"memory_budget": budget_mib and budget_mib * MIB, "strategy": strategy},
            **changes,
        )
        record["case_id"] = f"{framework} {variant} {token_chunk} {vocab_chunk} {budget_mib}"
        record["plan"] = {
            "strategy": strategy,
            "token_chunk": token_chunk,
            "vocab_chunk": vocab_chunk,
            "workspace_bytes": (predicted_mib or workspace_mib) * MIB,
        }
        if record["memory"]:
            record["memory"]["workspace_bytes"] = workspace_mib * MIB
            record["timing"]["step_s"] = [step_ms / 1e3] * 3
        return record

    return make


@pytest.fixture
def yardstick(make_record):
    def make(variant, step_ms, again=False):
        record = make_record(variant=variant)
        record["case_id"] = f"{variant}{'-again' if again else ''}"
        record["timing"]["step_s"] = [step_ms / 1e3] * 3
        return record

    return make


@pytest.fixture
def records(tile, yardstick):
    return [
        yardstick("floor", 5),
        yardstick("standard", 8),
        tile("two_pass", 256, 2048, workspace_mib=8, step_ms=12, auto=True, predicted_mib=10),
        tile("one_pass", 16, 8192, workspace_mib=2, step_ms=11, budget_mib=4),
        tile("two_pass", 64, 128, workspace_mib=1, step_ms=20),
        tile("two_pass", 64, 512, workspace_mib=3, step_ms=20),  # beaten in memory
        tile("two_pass", 128, 128, workspace_mib=1, step_ms=22),  # beaten in time
        tile("one_pass", 64, 8192, workspace_mib=4, step_ms=10),
        yardstick("floor", 5, again=True),
        yardstick("standard", 10, again=True),
    ]


def names(points):
    return [f"{point.strategy} {point.token_chunk} x {point.vocab_chunk}" for point in points]


def test_frontier_is_what_no_other_beats(records):
    (tuning,) = tunings(records)
    assert names(tuning.frontier) == [
        "two_pass 64 x 128",
        "one_pass 16 x 8192",
        "one_pass 64 x 8192",
    ]
    for point in tuning.points:
        beaten = [
            other
            for other in tuning.points
            if other.place != point.place
            and other.place[0] <= point.place[0]
            and other.place[1] <= point.place[1]
        ]
        assert bool(beaten) == (point not in tuning.frontier)


@pytest.mark.parametrize("status", ["mismatch", "oom", "error"])
def test_what_has_no_right_answer_is_not_on_the_frontier(records, tile, status, tmp_path):
    fast = tile("one_pass", 1, 8192, workspace_mib=1, step_ms=1)
    fast |= {"status": status, "error": {"type": "E", "message": "why\nmore"}}
    (tuning,) = tunings([*records, fast])
    assert "one_pass 1 x 8192" not in names(tuning.frontier)
    assert "one_pass 1 x 8192" in names(tuning.points)
    text = write_tune([*records, fast], tmp_path, "command").read_text()
    assert "(`why`)" in text


def test_yardsticks_pool_both_measurements_and_show_the_drift(records):
    (tuning,) = tunings(records)
    assert tuning.standard.step.median == pytest.approx(9e-3)
    assert tuning.standard.drift_percent == pytest.approx(25)
    assert tuning.floor.drift_percent == pytest.approx(0)
    (without,) = tunings([record for record in records if "-again" not in record["case_id"]])
    assert without.standard.drift_percent is None


def markdown_rows(text, heading):
    table = text.split(f"### {heading}")[1].split("|", 1)[1].split("\n\n")[0]
    headers, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
    ]
    return [dict(zip(headers, row, strict=True)) for row in rows]


@pytest.mark.usefixtures("drawn")
def test_tables_say_how_far_the_plan_is_from_the_frontier(records, tmp_path):
    text = write_tune(records, tmp_path, "python -m harness.tune --seed=1").read_text()
    assert "python -m harness.tune --seed=1" in text
    default, budget = markdown_rows(text, "The plan's choices")
    assert default["the plan's choice"] == "default"
    # 12 ms and 8 MiB: 64 x 8192 takes 10 ms in 4 MiB; 16 x 8192 is as fast in 2 MiB.
    assert (default["x fastest"], default["x leanest"]) == ("1.20", "4.00")
    assert (default["x standard"], default["x floor"]) == ("1.33", "2.40")
    assert (default["predicted MiB"], default["measured / predicted"]) == ("10.0", "0.80")
    # 11 ms in 2 MiB where 4 were allowed, in which there is one of 10 ms.
    assert budget["the plan's choice"] == "in 4.00 MiB"
    assert (budget["x fastest"], budget["x leanest"]) == ("1.10", "1.00")
    frontier = markdown_rows(text, "The frontier")
    assert [row["step ms"] for row in frontier] == ["20.0", "11.0", "10.0"]
    assert len(markdown_rows(text, "Everything measured")) == 6
    assert "![PyTorch" in text
    assert (tmp_path / "frontier_torch.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def with_stream(records, yardstick):
    """Of V = 8192: a stream of 4 ms moves 8.39 GB/s; of 5 ms when it is measured again."""
    for record in records:
        if plan := record.get("plan"):
            products = 4 if plan["strategy"] == "two_pass" else 3
            plan["flops"] = 2 * products * 2048 * 8192 * 512
    return [*records, yardstick("stream", 4), yardstick("stream", 5, again=True)]


def test_tables_say_why_a_tiling_is_as_fast_as_it_is(with_stream, tmp_path):
    """A floor of 5 ms: 6.67 ms for the matmuls of two_pass, 5 for those of one_pass."""
    text = write_tune(with_stream, tmp_path, "command").read_text()
    why = ("matmuls %", "rest B/logit")
    # 13.33, 6 and 5 ms that are left, at 7.46 GB/s, for 16.8 million logits.
    expected = [("33.3", "5.93"), ("45.5", "2.67"), ("50.0", "2.22")]
    frontier = markdown_rows(text, "The frontier")
    assert [tuple(row[name] for name in why) for row in frontier] == expected
    assert all(row[name] for row in markdown_rows(text, "Everything measured") for name in why)
    assert WHY_NOTE in text
    assert "- floor: 5.00 ms, 10.3 TFLOP/s; at the end +0.0 %" in text
    assert "- stream: 4.50 ms, 7.46 GB/s; at the end +25.0 %" in text


@pytest.mark.parametrize("missing", ["floor", "stream"])
def test_runs_without_a_yardstick_do_not_say_why(with_stream, tmp_path, missing):
    left = [record for record in with_stream if record["variant"] != missing]
    text = write_tune(left, tmp_path, "command").read_text()
    assert "matmuls %" not in text
    assert "logit" not in text.replace("full-logits", "")
    console = Console(file=io.StringIO(), width=120, color_system=None)
    for table in frontier_tables(left):
        console.print(table)
    assert "logit" not in console.file.getvalue().replace("full-logits", "")


def test_point_without_a_plan_has_dashes(with_stream, tile, tmp_path):
    old = tile("one_pass", 32, 8192, workspace_mib=0.5, step_ms=30)
    old["plan"] = None
    first, *_ = markdown_rows(
        write_tune([*with_stream, old], tmp_path, "command").read_text(), "The frontier"
    )
    assert (first["step ms"], first["matmuls %"], first["rest B/logit"]) == (
        "30.0", "\u2013", "\u2013"
    )  # fmt: skip


def test_stream_is_not_in_the_picture(records, with_stream):
    (tuning,), (with_it,) = tunings(records), tunings(with_stream)
    assert with_it.stream is not None
    (axes,), (other,) = draw_frontier(tuning).axes, draw_frontier(with_it).axes
    assert axes.get_ylim() == other.get_ylim()
    assert len(axes.lines) == len(other.lines)


@pytest.mark.parametrize("of", ["records", "with_stream"])
def test_terminal_tables_fit_in_120_columns(of, tile, request):
    records = request.getfixturevalue(of)
    wide = tile(
        "two_pass", 16384, 131072, workspace_mib=12345, step_ms=123456, budget_mib=2048
    )  # fmt: skip
    console = Console(file=io.StringIO(), width=120, color_system=None)
    for table in frontier_tables([*records, wide]):
        console.print(table)
    printed = console.file.getvalue()
    assert max(map(len, printed.splitlines())) <= 120
    assert "…" not in printed, "no cell is cut"
    assert ("mat-" in printed) == (of == "with_stream")
    assert "standard: 9.00 ms" in printed
    assert "+25.0 %" in printed


def test_picture_has_each_strategy_the_frontier_and_the_choices(records):
    (tuning,) = tunings(records)
    (axes,) = draw_frontier(tuning).axes
    drawn = {line.get_label(): line for line in axes.lines}
    assert drawn["two_pass"].get_color() != drawn["one_pass"].get_color()
    assert list(drawn["the plan's choice by default"].get_xdata()) == [8 * MIB]
    assert list(drawn["the plan's choice within a budget"].get_xdata()) == [2 * MIB]
    assert list(drawn["the frontier of what was measured"].get_xdata())[:3] == [
        MIB, 2 * MIB, 4 * MIB
    ]  # fmt: skip
    assert {"standard, 9 ms", "floor, 5 ms"} <= set(drawn)
    assert axes.get_xscale() == "log"


def test_each_framework_has_its_section_and_picture(records, tile, tmp_path):
    other = tile("two_pass", 8, 8, workspace_mib=1, step_ms=1, framework="jax")
    text = write_tune([*records, other], tmp_path, "command").read_text()
    assert "## PyTorch" in text
    assert "## JAX" in text
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "frontier_torch.png", "frontier_jax.png"
    }  # fmt: skip


@pytest.mark.parametrize("status", ["unavailable", "timeout"])
def test_records_without_a_result_make_a_report(make_record, tmp_path, status):
    failed = make_record(variant="two_pass", status=status, device=None, options=None)
    assert "Nothing was measured." in write_tune([failed], tmp_path, "command").read_text()
    assert not list(tmp_path.glob("*.png"))
    assert write_tune([], tmp_path, "command").is_file()
