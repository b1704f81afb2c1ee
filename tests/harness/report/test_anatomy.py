"""The section of anatomies: its tables, its captions, and what its pictures show."""

from __future__ import annotations

import pytest

from harness.memory.anatomy import GRADIENT, INPUT, UNUSED, WORKSPACE, Buffer
from harness.report.anatomy_captions import peak_caption, timeline_caption
from harness.report.anatomy_peak_plot import peak_figure
from harness.report.anatomy_section import anatomy_section, anatomy_tables
from harness.report.anatomy_timeline_plot import other_timelines_figure, timeline_figure
from harness.report.dissected import dissected, on_one_axis
from harness.report.run import named

MIB = 2**20


def steps_of(records):
    ((_, steps),) = dissected(list(records)).items()
    return steps


def columns(table, framework):
    """(variant, name, MiB) of one framework in the rows that it has."""
    at = table.headers.index(f"{framework}: alive at the peak")
    return [(row[0], row[at], row[at + 1]) for row in table.rows if row[at]]


def shown_mebibytes(text):
    return float(text.replace(",", ""))


def test_frameworks_stand_side_by_side(anatomies):
    (table,) = anatomy_tables(anatomies()).tables
    assert table.headers == (
        *("variant", "JAX: alive at the peak", "MiB", "asked for by"),
        *("PyTorch: alive at the peak", "MiB", "asked for by"),
    )
    assert table.numeric == (False, False, True, False, False, True, False)
    assert [row[:5] for row in table.rows[:3]] == [
        ("standard", "the whole peak", "150", "\u2013", "the whole peak"),
        ("standard", "exp (workspace)", "64.0", "standard.py:15", "log_softmax (workspace)"),
        ("standard", "sub (workspace)", "64.0", "standard.py:15", "nll (workspace)"),
    ]
    starts = [row[0] for row, first in zip(table.rows, table.starts_group, strict=True) if first]
    assert starts == ["standard", "chunked"]


@pytest.mark.parametrize("small", [0, 30], ids=["few parts", "many parts"])
def test_parts_add_up_to_the_peak(make_anatomy, small):
    parts = [
        Buffer(kind=INPUT, name="weight", size_bytes=40 * MIB),
        *(Buffer(kind=WORKSPACE, name=f"tile {n}", size_bytes=n * MIB // 8) for n in range(small)),
    ]
    records = [make_anatomy(framework, buffers=parts) for framework in ("jax", "torch")]
    (table,) = anatomy_tables(records).tables
    for framework, step in zip(("JAX", "PyTorch"), steps_of(records), strict=True):
        (_, whole, peak), *rest = columns(table, framework)
        assert whole == "the whole peak"
        assert shown_mebibytes(peak) == pytest.approx(step.peak_bytes / MIB, abs=0.5)
        shown = sum(shown_mebibytes(each) for _, _, each in rest)
        assert shown == pytest.approx(step.peak_bytes / MIB, abs=0.5)
        assert len(rest) == (9 if small else 1), "the small ones are one"
        assert sum(part.size_bytes for part in step.parts) == step.peak_bytes


def test_what_is_small_is_one_row_at_the_end(make_anatomy):
    parts = [
        Buffer(kind=INPUT, name="weight", size_bytes=40 * MIB),
        Buffer(kind=WORKSPACE, name="tile", size_bytes=10 * MIB),
        Buffer(kind=WORKSPACE, name="31 small buffers", size_bytes=2 * MIB),
        Buffer(kind=GRADIENT, name="3 small buffers", size_bytes=MIB),
        Buffer(kind=WORKSPACE, name="column", size_bytes=MIB),
        Buffer(kind=WORKSPACE, name="row", size_bytes=MIB // 4),
    ]
    (table,) = anatomy_tables([make_anatomy(buffers=parts)]).tables
    assert [row[1:3] for row in table.rows] == [
        ("the whole peak", "54.2"),
        ("weight (input)", "40.0"),
        ("tile (workspace)", "10.0"),
        ("column (workspace)", "1.00"),
        ("all the rest", "3.25"),
    ]


def test_one_framework_alone_has_no_empty_columns(anatomies):
    section = anatomy_tables(anatomies(frameworks=["jax"]))
    (table,) = section.tables
    assert table.headers == ("variant", "JAX: alive at the peak", "MiB", "asked for by")
    assert "PyTorch" not in " ".join(section.notes)
    assert section.lead == "One step: N = 2048 tokens (1 x 2048), D = 512, float32, CPU, V = 8192."


def test_variant_that_one_framework_lacks_has_cells_of_the_other(make_anatomy, anatomies):
    (table,) = anatomy_tables([*anatomies(), make_anatomy("jax", "optax")]).tables
    rows = [row for row in table.rows if row[0] == "optax"]
    assert rows[0][1] == "the whole peak"
    assert {row[4:] for row in rows} == {("", "", "")}


def test_each_shape_has_its_table_and_its_pictures(anatomies, tmp_path):
    section = anatomy_section([*anatomies(8192), *anatomies(16384)], tmp_path)
    assert [table.title.rpartition(", ")[2] for table in section.tables] == [
        "V = 8192",
        "V = 16384",
    ]
    assert [(plot.path.stem, plot.title) for plot in section.plots] == [
        ("anatomy_peak_1", "What is alive at the peak (V = 8192)"),
        ("anatomy_timeline_1", "Memory over one step (V = 8192)"),
        ("anatomy_peak_2", "What is alive at the peak (V = 16384)"),
        ("anatomy_timeline_2", "Memory over one step (V = 16384)"),
    ]
    assert all(plot.path.read_bytes().startswith(b"\x89PNG") for plot in section.plots)


def test_merged_runs_are_not_mixed(anatomies, make_anatomy, tmp_path):
    large = [make_anatomy("torch", buffers=[Buffer(kind=INPUT, name="x", size_bytes=900 * MIB)])]
    runs = [named("old", "", anatomies()), named("new", "", large)]
    section = anatomy_section([record for run in runs for record in run.records], tmp_path)
    old, new = section.tables
    assert (old.title.split(",")[0], new.title.split(",")[0]) == ("run old", "run new")
    assert new.rows == (
        ("standard", "the whole peak", "900", "\u2013"),
        ("standard", "x (input)", "900", "\u2013"),
    )
    assert "900" not in {cell for row in old.rows for cell in row}
    assert [plot.title.partition(" (")[2] for plot in section.plots] == [
        *("run old)", "run old)", "run new)", "run new)")
    ]


@pytest.mark.parametrize(
    ("status", "words", "reason"),
    [
        ("oom", "out of memory", "OutOfMemoryError: tried 512 MiB"),
        ("error", "error", "RuntimeError: no"),
        ("timeout", "timed out", "RuntimeError: no"),
    ],
)
@pytest.mark.parametrize("others", [True, False], ids=["among others", "alone"])
def test_failed_anatomy_is_a_line_with_its_reason_and_in_no_picture(
    make_anatomy, anatomies, tmp_path, status, words, reason, others
):
    error = {} if status == "oom" else {"error": {"type": "RuntimeError", "message": "no"}}
    failed = make_anatomy("torch", "liger", status=status, **error)
    section = anatomy_section([*(anatomies() if others else []), failed], tmp_path)
    (failure,) = section.failures
    assert failure.subject == f"torch liger at V = 8192: {words}"
    assert failure.reason == reason
    assert not section.is_empty
    assert (len(section.plots), len(section.tables)) == ((2, 1) if others else (0, 0))
    assert "liger" not in "".join(plot.caption for plot in section.plots)
    assert section.lead.startswith("One step:" if others else "No step could be taken apart.")


def test_nothing_is_no_section(tmp_path):
    assert anatomy_section([], tmp_path).is_empty


WEIGHT = Buffer(kind=INPUT, name="weight", size_bytes=16 * MIB)
GRADIENTS = Buffer(kind=GRADIENT, name="dW", size_bytes=16 * MIB)
IDLE = Buffer(kind=UNUSED, name="idle", size_bytes=2 * MIB)


def tile(name, mebibytes=64):
    return Buffer(kind=WORKSPACE, name=name, size_bytes=mebibytes * MIB)


@pytest.mark.parametrize(
    ("buffers", "caption"),
    [
        (
            [WEIGHT, tile("exp"), tile("sub"), tile("small", 8)],
            "PyTorch standard holds 152 MiB, 136 MiB of it workspace (2 x 64 MiB: exp and sub), "
            "before a gradient is there.",
        ),
        (
            [WEIGHT, GRADIENTS, tile("exp")],
            "PyTorch standard holds 96 MiB, 64 MiB of it workspace (64 MiB: exp).",
        ),
        (
            [WEIGHT, GRADIENTS, tile("exp"), IDLE],
            "PyTorch standard holds 98 MiB, 64 MiB of it workspace (64 MiB: exp) and 2 MiB not in "
            "use just then.",
        ),
        (
            [WEIGHT, GRADIENTS, tile("exp"), Buffer(kind=UNUSED, name="idle", size_bytes=596)],
            "PyTorch standard holds 96 MiB, 64 MiB of it workspace (64 MiB: exp).",
        ),
        ([WEIGHT, GRADIENTS], "PyTorch standard holds 32 MiB, 0 B of it workspace."),
    ],
    ids=["alike", "with gradients", "unused", "next to nothing unused", "no workspace"],
)
def test_peak_caption(make_anatomy, buffers, caption):
    assert peak_caption(steps_of([make_anatomy(buffers=buffers)])) == caption


PLATEAU = ((0.0, 0), (0.2, 63 * MIB), (0.3, 64 * MIB), (0.9, 64 * MIB + 100), (1.0, 0))
LOW = ((0.0, 0), (0.3, 16 * MIB), (0.9, 0))


@pytest.mark.parametrize(
    ("timelines", "backward_s", "caption"),
    [
        (
            {"standard": PLATEAU},
            0.25,
            "JAX standard is highest in the backward pass, 64 MiB beyond the inputs after 30% of "
            "its time.",
        ),
        (
            {"standard": PLATEAU},
            None,
            "JAX standard is highest in the forward pass, 64 MiB beyond the inputs after 30% of "
            "its time.",
        ),
        (
            {"standard": PLATEAU, "chunked": LOW},
            0.5,
            "JAX standard is highest in the forward pass, 64 MiB beyond the inputs after 30% of "
            "its time; JAX chunked is highest in the forward pass, 16 MiB beyond the inputs after "
            "30% of its time; chunked stays lower than standard by 4x in JAX.",
        ),
        (
            {"standard": LOW, "chunked": PLATEAU},
            0.5,
            "JAX standard is highest in the forward pass, 16 MiB beyond the inputs after 30% of "
            "its time; JAX chunked is highest in the forward pass, 64 MiB beyond the inputs after "
            "30% of its time.",
        ),
    ],
    ids=["backward", "forward alone", "lower", "not lower"],
)
def test_timeline_caption(make_anatomy, timelines, backward_s, caption):
    records = [make_anatomy("jax", variant, buffers=[]) for variant in timelines]
    for record, timeline in zip(records, timelines.values(), strict=True):
        record["anatomy"] |= {"timeline": timeline, "step_s": 1.0, "backward_s": backward_s}
    assert timeline_caption(steps_of(records)) == caption


@pytest.mark.parametrize(
    ("variants", "subjects"),
    [
        (["standard", "chunked"], ["JAX standard", "JAX chunked"]),
        (["standard", "chunked", "optax"], ["JAX standard", "JAX chunked", "JAX optax"]),
        (
            ["standard", "chunked", "fat", "lean", "middling"],
            ["JAX standard", "JAX chunked", "of 3 others the one with the lowest peak, JAX lean,"],
        ),
        (["fat", "lean"], ["Of 2 the one with the lowest peak, JAX lean,"]),
    ],
)
def test_captions_name_standard_and_chunked_and_of_the_others_the_leanest(
    make_anatomy, variants, subjects
):
    sizes = {"lean": 8, "middling": 9}
    steps = steps_of(
        make_anatomy("jax", variant, buffers=[tile("tile", sizes.get(variant, 64))])
        for variant in variants
    )
    peak, timeline = peak_caption(steps), timeline_caption(steps)
    assert [clause.partition(" holds")[0] for clause in peak.split("; ")] == subjects
    clauses = timeline.removesuffix(".").split("; ")
    assert [clause.partition(" is highest")[0] for clause in clauses] == subjects


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
