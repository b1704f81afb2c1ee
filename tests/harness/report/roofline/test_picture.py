"""The picture: bars, cut where the matmuls end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from harness.report.roofline_plot import roofline_figure
from harness.report.roofline_section import roofline_section
from tests.harness.report.roofline.sections import steps_of


def test_bars_are_cut_where_the_matmuls_end(both):
    records = both(torch=(150,), jax=(80,))
    (panel,) = roofline_figure(steps_of(records), steps_of(records)[0].row.conditions).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        "JAX standard", "PyTorch standard"
    ]  # fmt: skip
    bars = sorted((round(bar.get_y()), bar.get_x(), bar.get_width()) for bar in panel.patches)
    # JAX is faster than its floor: its bar ends with its step all the same.
    expected = [(0, 0.0, 0.08), (0, 0.08, 0.0), (1, 0.0, 0.1), (1, 0.1, 0.05)]
    assert bars == [pytest.approx(each) for each in expected]
    assert {text.get_text() for text in panel.texts} == {"80 ms, 125 %", "150 ms, 67 %"}
    colours = {bar.get_facecolor() for bar in panel.patches}
    assert len(colours) == 4, "a dark and a pale one for each framework"


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize(
    ("sizes", "panels"),
    [
        ((8192, 16384, 32768), ["V = 8,192", "V = 16,384", "V = 32,768"]),
        ((4096, 8192, 16384, 32768), ["V = 32,768"]),
    ],
)
def test_panel_for_each_vocabulary_or_the_largest_alone(timed, yardsticks, tmp_path, sizes, panels):
    records = [
        record
        for size in sizes
        for record in (
            *yardsticks(floor_ms=100 * size / 8192, vocab_size=size),
            timed("standard", 150 * size / 8192, vocab_size=size),
        )
    ]
    found = steps_of(records)
    figure = roofline_figure(found, found[0].row.conditions)
    assert [axes.get_title(loc="left") for axes in figure.axes] == panels
    (plot,) = roofline_section(records, tmp_path).plots
    assert plot.path.read_bytes().startswith(b"\x89PNG")
    assert plot.caption == "At V = 32,768 matmuls are 67 % of standard in PyTorch."


def test_names_and_times_lie_within_the_picture(timed, yardsticks):
    long = [
        timed("linear_cross_entropy_chunked", 220 * each, vocab_size=size, options={"t": each})
        for size in (8192, 16384, 32768)
        for each in (1, 2)
    ]
    records = [
        *long,
        *(each for size in (8192, 16384, 32768) for each in yardsticks(vocab_size=size)),
    ]
    found = steps_of(records)
    figure = roofline_figure(found, found[0].row.conditions)
    figure.draw_without_rendering()
    for axes in figure.axes:
        right = axes.get_window_extent().x1
        assert all(text.get_window_extent().x1 <= right + 1 for text in axes.texts)
        ticks = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert len(ticks) >= 2
        assert all(one.x1 < other.x0 for one, other in pairwise(ticks))
    names = figure.axes[0].get_yticklabels()
    assert min(label.get_window_extent().x0 for label in names) >= 0
