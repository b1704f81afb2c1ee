"""The pictures: which are drawn, what their captions say, where the marks are."""

from __future__ import annotations

import struct

import pytest

from harness.report.axes import add_legend, log_ticks, new_figure
from harness.report.bar_plot import draw_bars
from harness.report.line_plot import draw_lines
from harness.report.plots import draw_plots
from harness.report.quantity import ADDITIONAL_MEMORY, PEAK_MEMORY, STEP_TIME
from harness.report.series import make_series
from tests.tables import slow

NAMES = ["peak_memory", "additional_memory", "step_time", "time_memory_tradeoff"]
OUT = ("torch", "standard", 32768)


def names(plots):
    return [plot.path.stem for plot in plots]


def lines_drawn(records, quantity=PEAK_MEMORY):
    _, axes = new_figure("title", "subtitle", "")
    series = make_series(records, records)
    draw_lines(axes, quantity, series, sorted({record["vocab_size"] for record in records}))
    return axes


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("vocab_sizes", "out"),
    [
        pytest.param((8192, 16384, 32768), (OUT,), id="sweep, out of memory"),
        pytest.param((32768,), (), id="single, all fit"),
        pytest.param((8192, 16384, 32768), (), id="sweep, all fit", marks=slow),
        pytest.param((32768,), (OUT,), id="single, out of memory", marks=slow),
    ],
)
def test_four_pictures(sweep, tmp_path, vocab_sizes, out):
    plots = draw_plots(sweep(vocab_sizes, out_of_memory=out), tmp_path)
    assert names(plots) == NAMES
    for plot in plots:
        content = plot.path.read_bytes()
        assert content.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", content[16:24])
        assert width > height > 400
        assert plot.caption.endswith(".")


@pytest.mark.usefixtures("drawn")
def test_same_records_give_the_same_bytes(sweep, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        draw_plots(sweep((8192,)), tmp_path / folder)
    for name in NAMES:
        first, second = (tmp_path / folder / f"{name}.png" for folder in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()


def test_captions_are_computed(sweep, tmp_path):
    plots = {plot.path.stem: plot.caption for plot in draw_plots(sweep(), tmp_path)}
    assert plots["additional_memory"] == (
        "At V=32768 chunked needs, beyond the inputs, 7.4x less than standard in JAX and "
        "10x less in PyTorch; memory measured in JAX by xla buffer assignment, PyTorch by torch "
        "allocator events."
    )
    assert plots["step_time"].startswith("At V=32768 chunked takes 1.")
    assert "the time of standard in JAX" in plots["step_time"]


def test_caption_says_what_ran_out_of_memory(sweep, tmp_path):
    plots = draw_plots(sweep(out_of_memory=[OUT]), tmp_path)
    assert "(V=32768)" in plots[0].caption
    assert "(V=16384)" in plots[0].caption
    for plot in plots:
        assert "PyTorch standard ran out of memory at V=32768" in plot.caption


def test_out_of_memory_is_a_cross_near_the_top_in_the_colour_of_its_series(sweep):
    axes = lines_drawn(sweep(out_of_memory=[OUT, ("jax", "standard", 32768)]))
    crosses = [line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [line.get_xdata()[0] for line in crosses] == [32768, 32768]
    assert all(line.get_ydata()[0] > 0.8 for line in crosses), "in fractions of the axes"
    assert len({line.get_ydata()[0] for line in crosses}) == 2, "stacked"
    labels = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    for title, cross in zip(("JAX standard", "PyTorch standard"), crosses, strict=True):
        assert labels[f"{title}: out of memory"].get_color() == cross.get_color()
        assert labels[title][0].get_color() == cross.get_color()


def test_marks_lie_above_the_data(sweep):
    records = sweep(out_of_memory=[OUT])
    top = max(r["memory"]["peak_bytes"] for r in records if r["memory"])
    axes = lines_drawn(records)
    height = axes.transAxes.inverted().transform(axes.transData.transform((32768, top)))[1]
    marks = [
        line.get_ydata()[0]
        for line in axes.lines
        if line.get_marker() == "x" and len(line.get_ydata())
    ]
    assert height < min(marks)


def test_vocabulary_ticks_are_plain(sweep):
    axes = lines_drawn(sweep())
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8k", "16k", "32k"]


def test_gradients_are_the_lower_bound_of_additional_memory(sweep):
    labels = lines_drawn(sweep(), ADDITIONAL_MEMORY).get_legend_handles_labels()[1]
    assert any("gradients" in label and "lower bound" in label for label in labels)


def test_framework_is_colour_and_variant_is_marker_and_line(sweep):
    records = sweep(variants=("standard", "chunked", "liger", "one_pass", "floor"))
    series = make_series(records, records)
    looks = {(each.framework, each.variant): each for each in series}
    assert len({each.colour for each in series}) == 2
    assert len({(each.style.marker, each.style.line) for each in series}) == 5
    assert looks["jax", "liger"].style == looks["torch", "liger"].style
    # A variant keeps its look in a picture that lacks the others.
    few = [record for record in records if record["variant"] == "one_pass"]
    assert make_series(few, records)[0].style == looks["jax", "one_pass"].style


def test_a_picture_with_nothing_to_show_is_left_out(make_record, tmp_path):
    assert draw_plots([], tmp_path) == []
    assert draw_plots([make_record(status="oom"), make_record(status="error")], tmp_path) == []
    assert names(draw_plots([make_record(memory=None)], tmp_path)) == ["step_time"]
    assert names(draw_plots([make_record(timing=None)], tmp_path)) == NAMES[:2]
    assert names(draw_plots([make_record(variant="floor")], tmp_path)) == ["step_time"]


def test_wrong_answers_are_not_drawn(make_record):
    records = [make_record(), make_record(variant="chunked") | {"status": "mismatch"}]
    assert [len(each.results) for each in make_series(records, records)] == [1, 0]


def test_each_combination_has_its_own_pictures(sweep, tmp_path):
    records = sweep((8192, 16384)) + sweep((8192, 16384), dtype="bfloat16", hidden_dim=64)
    plots = draw_plots(records, tmp_path)
    assert sorted(names(plots)) == sorted(
        f"{name}_{suffix}" for name in NAMES for suffix in ("d512_float32", "d64_bfloat16")
    )
    assert {plot.title.partition(" (")[2] for plot in plots} == {
        "D = 512, float32)",
        "D = 64, bfloat16)",
    }


def test_each_run_has_its_own_pictures_in_files_of_their_own(sweep, tmp_path):
    runs = ("a/b", "a-b", "c")
    plots = draw_plots([r for run in runs for r in sweep((8192,), run=run)], tmp_path)
    assert len({plot.path for plot in plots}) == len(runs) * len(NAMES)
    assert {plot.title.partition(" (")[2] for plot in plots} == {f"run {run})" for run in runs}


def test_a_case_that_died_before_it_named_its_device_is_in_the_picture(make_record, tmp_path):
    records = [make_record(status="oom", device=None), make_record(variant="chunked")]
    plots = draw_plots(records, tmp_path)
    assert names(plots) == NAMES
    assert "ran out of memory" in plots[0].caption


@pytest.mark.parametrize("top_mebibytes", [0.3, 1.7, 200, 900, 1100, 1500, 3000])
def test_ticks_of_bars_are_round_sizes(make_record, top_mebibytes):
    record = make_record(memory={"peak_bytes": int(top_mebibytes * 2**20)})
    _, axes = new_figure("title", "subtitle", "")
    draw_bars(axes, PEAK_MEMORY, make_series([record], [record]), record["vocab_size"])
    zero, *labels = [label.get_text() for label in axes.get_yticklabels()]
    assert zero == "0"
    assert 3 <= len(labels) <= 6
    # What a label says is where its tick is.
    scales = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    sizes = [float(number) * scales[unit] for number, unit in map(str.split, labels)]
    assert sizes == list(axes.yaxis.get_majorticklocs())[1:], labels


@pytest.mark.parametrize("base", [2, 10])
@pytest.mark.parametrize("factor", [1.3, 2, 7, 100, 1e5])
def test_log_ticks_are_several_and_inside(base, factor):
    for low in (0.003, 1.0, 6.3e7):
        ticks = log_ticks(low, low * factor, base)
        assert 2 <= len(ticks) <= 9
        assert ticks == sorted(ticks)
        assert low <= ticks[0]
        assert ticks[-1] <= low * factor


@pytest.mark.parametrize(
    ("variants", "tilt"),
    [(("standard", "chunked"), 0), (tuple(f"a_variant_number_{n}" for n in range(9)), 30)],
)
def test_names_and_values_of_bars_do_not_run_into_each_other(sweep, variants, tilt):
    _, axes = new_figure("title", "subtitle", "")
    records = sweep((8192,), variants=variants)
    draw_bars(axes, STEP_TIME, make_series(records, records), 8192)
    assert {label.get_rotation() for label in axes.get_xticklabels()} == {tilt}
    assert {text.get_rotation() for text in axes.texts} == {0, 90 if tilt else 0}


@pytest.mark.parametrize(
    "labels",
    [["chunked"], ["standard", "chunked"] * 4, ["chunked token_chunk=512 vocab_chunk=16384"] * 6],
)
def test_legend_is_not_cut_off(labels):
    figure, axes = new_figure("title", "subtitle", "")
    handles = [axes.plot([0, 1], label=f"PyTorch {label}")[0] for label in labels]
    add_legend(figure, handles)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert legend.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    "vocab_sizes", [pytest.param((8192, 16384), marks=slow), (8192,)], ids=["sweep", "single"]
)
def test_stream_is_in_no_picture(sweep, make_record, tmp_path, vocab_sizes):
    variants = ("standard", "chunked", "floor")
    plots = {}
    for chosen in (variants, (*variants, "stream")):
        directory = tmp_path / f"{len(chosen)}"
        directory.mkdir()
        plots[chosen] = draw_plots(sweep(vocab_sizes, variants=chosen), directory)
    for one, other in zip(*plots.values(), strict=True):
        assert one.path.read_bytes() == other.path.read_bytes()
        assert (one.title, one.caption) == (other.title, other.caption)
    assert draw_plots([make_record(variant="stream")], tmp_path) == []


def test_floor_is_dotted_in_the_time_picture(sweep):
    axes = lines_drawn(sweep(), STEP_TIME)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    assert handles["PyTorch floor"][0].get_linestyle() == ":"
