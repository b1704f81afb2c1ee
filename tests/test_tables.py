"""A grid's fast tier has every pair of values, and no row is lost."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from tests.tables import cover, grid

AXES = {"dtype": ("a", "b", "c"), "layout": (0, 1), "reduction": ("x", "y", "z"), "bias": (0, 1)}


def pairs(rows):
    return {
        (first, row[first], second, row[second])
        for row in rows
        for first, second in combinations(range(len(row)), 2)
    }


def split(**axes):
    """The rows of each tier."""
    mark = grid(**axes).mark
    names, rows = mark.args
    assert names == tuple(axes)
    slow = [row.values for row in rows if any(each.name == "slow" for each in row.marks)]
    return [row.values for row in rows if row.values not in slow], slow


def test_fast_rows_have_every_pair_and_the_others_are_slow():
    fast, slow = split(**AXES)
    assert pairs(fast) == pairs(product(*AXES.values()))
    assert sorted(fast + slow) == sorted(product(*AXES.values()))
    assert len(fast) <= 12 < len(slow)


@pytest.mark.parametrize("axes", [{"dtype": "abc"}, {"dtype": "abc", "layout": (0, 1)}])
def test_no_row_of_one_or_two_axes_is_slow(axes):
    assert split(**axes) == (list(product(*axes.values())), [])


def test_a_mapping_names_its_values():
    rows = grid(options={"none": {}, "all": {"z_loss": 1.0}}, layout=(0, 1)).mark.args[1]
    assert [row.id for row in rows] == ["none-0", "none-1", "all-0", "all-1"]
    assert rows[-1].values == ({"z_loss": 1.0}, 1)


def test_cover_of_no_axis_and_of_one():
    assert cover() == [()]
    assert cover("ab") == [("a",), ("b",)]
