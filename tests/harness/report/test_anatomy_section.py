"""The section of an anatomy: both frameworks side by side, nothing lost, nothing mixed up."""

from __future__ import annotations

import pytest

from harness.memory.anatomy import GRADIENT, INPUT, WORKSPACE, Buffer
from harness.report.anatomy_section import anatomy_section, anatomy_tables
from harness.report.run import named
from tests.harness.report.anatomies import MIB, steps_of


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


@pytest.mark.usefixtures("drawn")
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
