"""Many variants over several vocabularies: a panel for each that has something to show."""

from __future__ import annotations

import pytest

from harness.report import plots
from harness.report.axes import new_panels
from harness.report.measures import settle
from harness.report.panel_plot import MOST_LABELS, draw_panels, panel_labels
from harness.report.quantity import ADDITIONAL_MEMORY, PEAK_MEMORY, STEP_TIME
from harness.report.series import make_series

SIZES = (8192, 16384, 32768)
VARIANTS = ("standard", "chunked", "two_pass", "one_pass", "compiled", "optax")


@pytest.fixture
def series(sweep, make_record):
    failed = [("torch", "compiled", 32768), ("jax", "optax", 16384), ("jax", "optax", 32768)]
    records = sweep(SIZES, variants=VARIANTS, out_of_memory=failed)
    records += [make_record("torch", "liger", size, status="unavailable") for size in SIZES]
    return make_series(settle(records), settle(records))


def panels_of(quantity, series):
    labels = panel_labels(quantity, series)
    figure, panels = new_panels("", "", "", labels, x_label="V", y_label="")
    draw_panels(panels, quantity, series, SIZES)
    return figure, dict(zip(labels, panels, strict=True))


def lines(axes, *, faint):
    """The data lines: of each framework one."""
    return [bars[0] for bars in axes.containers if (bars[0].get_alpha() == 0.3) == faint]


@pytest.mark.parametrize("quantity", [PEAK_MEMORY, STEP_TIME])
def test_each_variant_has_a_panel_with_standard_behind_it(series, quantity):
    _, panels = panels_of(quantity, series)
    assert list(panels) == ["chunked", "two_pass", "one_pass", "compiled", "optax"]
    for label, axes in panels.items():
        assert len(lines(axes, faint=True)) == 2
        own = [each for each in series if each.label == label and each.results]
        drawn = sorted(list(line.get_ydata()) for line in lines(axes, faint=False))
        values = [[quantity.value(record).median for record in each.results] for each in own]
        assert drawn == sorted(values)
    limits = {axes.get_ylim() for axes in panels.values()}
    assert len(limits) == 1


def test_what_ran_out_of_memory_is_marked_above_the_data(series):
    figure, panels = panels_of(PEAK_MEMORY, series)
    crosses = {
        label: [line for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]
        for label, axes in panels.items()
    }
    assert {label: len(found) for label, found in crosses.items()} == {
        "chunked": 0, "two_pass": 0, "one_pass": 0, "compiled": 1, "optax": 2,
    }  # fmt: skip
    figure.canvas.draw()
    for axes in panels.values():
        top = max(max(line.get_ydata()) for line in (*lines(axes, faint=True),))
        assert axes.transAxes.inverted().transform(axes.transData.transform((8192, top)))[1] < 0.93


def test_the_lower_bound_is_in_each(series):
    _, panels = panels_of(ADDITIONAL_MEMORY, series)
    for axes in panels.values():
        (bound,) = [line for line in axes.lines if line.get_color() == "#555555"]
        assert len(bound.get_xdata()) == len(SIZES)


@pytest.mark.parametrize(
    ("num_variants", "sizes", "axes"),
    [(6, SIZES, 5), (MOST_LABELS + 1, SIZES, 1), (6, SIZES[:1], 1)],
    ids=["panels", "few variants", "one vocabulary"],
)
def test_panels_only_where_lines_would_run_into_each_other(sweep, num_variants, sizes, axes):
    records = settle(sweep(sizes, variants=VARIANTS[:num_variants]))
    found = make_series(records, records)
    (drawing,) = plots._against_vocabulary(PEAK_MEMORY, found, "", "")
    assert len([each for each in drawing.figure.axes if each.axison]) == axes
