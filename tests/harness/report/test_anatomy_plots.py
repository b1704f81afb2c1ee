"""The pictures of an anatomy hold what the records hold."""

from __future__ import annotations

import pytest

from harness.memory.anatomy import INPUT
from harness.report.anatomy_peak_plot import peak_figure
from harness.report.anatomy_section import anatomy_section
from harness.report.anatomy_timeline_plot import other_timelines_figure, timeline_figure
from harness.report.dissected import on_one_axis
from tests.harness.report.anatomies import steps_of


def test_bars_end_at_the_peak(anatomies):
    steps = steps_of(anatomies())
    (axes,) = peak_figure(steps, "subtitle").axes
    titles = [label.get_text() for label in axes.get_yticklabels()]
    assert titles == ["JAX standard", "PyTorch standard", "JAX chunked", "PyTorch chunked"]
    for place, step in enumerate(steps):
        bar = [each for each in axes.patches if each.get_y() < place < each.get_y() + 0.7]
        assert len(bar) == len(step.parts)
        assert max(each.get_x() + each.get_width() for each in bar) == step.peak_bytes
    assert axes.get_xlim()[1] > max(step.peak_bytes for step in steps)
    words = {text.get_text() for text in axes.texts}
    assert {"150 MiB", "log_softmax\n64 MiB"} <= words


def test_legend_names_the_kinds_that_are_shown(make_anatomy, anatomies):
    def kinds(records):
        (legend,) = peak_figure(steps_of(records), "").legends
        return [text.get_text().partition(",")[0] for text in legend.get_texts()]

    assert kinds(anatomies()) == ["inputs", "gradients", "workspace", "assigned by XLA"]
    assert kinds([make_anatomy("torch")]) == ["inputs", "workspace"]


def test_a_line_for_each_step_and_a_mark_where_its_backward_begins(anatomies):
    steps = steps_of(anatomies())
    figure = timeline_figure(steps, "subtitle")
    (axes,) = figure.axes
    lines = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    marks = [line for line in axes.lines if line.get_marker() == "D"]
    assert len(lines) == len(steps)
    for line, step in zip(lines, steps, strict=True):
        assert line.get_color() == step.series.colour
        assert max(line.get_ydata()) == step.peak_bytes - step.total(INPUT)
        assert line.get_xdata()[-1] == step.step_s
    marked = [step for step in steps if step.backward_s is not None]
    assert [step.series.variant for step in marked] == ["standard", "standard"]
    for mark, step in zip(marks, marked, strict=True):
        assert mark.get_color() == step.series.colour
        assert (*mark.get_xdata(), *mark.get_ydata()) == (step.backward_s, step.most_bytes)
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    marks = ["assigned by XLA for the whole step", "backward begins"]
    assert labels == [*(step.title for step in steps), *marks]


def test_what_xla_assigned_is_a_thin_line_in_the_colour_of_its_step(anatomies):
    steps = steps_of(anatomies())
    (axes,) = timeline_figure(steps, "").axes
    assigned = [line for line in axes.lines if list(line.get_xdata()) == [0, 1.0]]
    jax = [step for step in steps if step.series.framework == "jax"]
    assert [(line.get_color(), list(line.get_ydata())) for line in assigned] == [
        (step.series.colour, [step.peak_bytes - step.total(INPUT)] * 2) for step in jax
    ]
    assert {line.get_linewidth() < 1 for line in assigned} == {True}


@pytest.mark.parametrize(
    ("frameworks", "said"),
    [
        (["jax"], ["XLA: the values alive, in a block that is taken as a whole for the step"]),
        (["torch"], ["PyTorch: its profiler slows the step"]),
        (
            ["jax", "torch"],
            [
                "XLA: the values alive, in a block that is taken as a whole for the step",
                "PyTorch: its profiler slows the step; shapes and heights may be compared, times "
                "only roughly",
            ],
        ),
    ],
)
def test_timelines_say_how_to_read_them(anatomies, frameworks, said):
    steps = steps_of(anatomies(frameworks=frameworks))
    (axes,) = timeline_figure(steps, "subtitle").axes
    assert axes.texts[0].get_text().splitlines() == ["subtitle", *said]
    small_print = other_timelines_figure(steps, "subtitle").texts[1]
    assert small_print.get_text().splitlines() == ["subtitle", *said]


@pytest.mark.parametrize(
    ("variants", "first", "others"),
    [
        (["standard", "chunked"], {"standard", "chunked"}, set()),
        (
            ["standard", "chunked", "liger", "optax"],
            {"standard", "chunked"},
            {"liger", "optax"},
        ),
        (["standard", "optax"], {"standard", "optax"}, set()),
        (["liger"], {"liger"}, set()),
    ],
)
def test_variants_beside_standard_and_chunked_have_panels(
    make_anatomy, tmp_path, variants, first, others
):
    records = [make_anatomy(framework, v) for framework in ("jax", "torch") for v in variants]
    halves = on_one_axis(steps_of(records))
    assert [{step.series.variant for step in half} for half in halves] == [first, others]
    names = [plot.path.name for plot in anatomy_section(records, tmp_path).plots]
    panels = ["anatomy_timeline_others.png"] if others else []
    assert names == ["anatomy_peak.png", "anatomy_timeline.png", *panels]


def test_panels_share_their_axes_and_have_a_line_for_each_framework(make_anatomy):
    records = [make_anatomy("torch", f"peer{n}") for n in range(4)]
    figure = other_timelines_figure(steps_of([*records, make_anatomy("jax", "peer2")]), "")
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == [f"peer{n}" for n in range(4)]
    assert len({axes.get_ylim() + axes.get_xlim() for axes in panels}) == 1
    lines = [
        [line for line in axes.lines if line.get_drawstyle() == "steps-post"] for axes in panels
    ]
    assert list(map(len, lines)) == [1, 1, 2, 1]
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["JAX", "PyTorch", "assigned by XLA for the whole step"]
    figure.draw_without_rendering()


@pytest.mark.parametrize("vocab_size", [3, 64, 640, 6400, 40960, 131072, 400_000])
def test_ticks_are_round_sizes(make_anatomy, vocab_size):
    steps = steps_of([make_anatomy(vocab_size=vocab_size)])
    (bars,) = peak_figure(steps, "").axes
    (lines,) = timeline_figure(steps, "").axes
    for axis in (bars.xaxis, lines.yaxis):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        assert 4 <= len(labels) <= 7
        assert labels[0] == "0"
        # What a label says is where its tick is.
        scales = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
        sizes = [float(n) * scales[unit] for n, unit in (each.split() for each in labels[1:])]
        assert sizes == list(axis.get_majorticklocs())[1:], labels


def test_long_names_leave_room_and_are_not_cut_off(make_anatomy):
    steps = steps_of([make_anatomy("torch", "a_very_long_name_" * 4)])
    for figure in (peak_figure(steps, ""), timeline_figure(steps, "")):
        figure.draw_without_rendering()
        (axes,), (legend,) = figure.axes, figure.legends
        assert axes.get_window_extent().width > figure.bbox.width / 2
        assert legend.get_window_extent().x1 <= figure.bbox.x1
