"""The section of breaking points: its tables, its captions, and what its picture shows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.report.breaking_point_plot import breaking_point_figure
from harness.report.breaking_point_section import (
    breaking_point_caption,
    breaking_point_section,
    breaking_point_tables,
)
from harness.report.environment import case_counts
from harness.report.limits import searches as searches_of
from harness.report.measures import is_probe
from harness.report.run import named
from harness.report.tables import closing_tables

MISSING = "\u2013"


def rows_of(records):
    """Of the only table, as {header: cell}."""
    (table,) = breaking_point_tables(records).tables
    return [dict(zip(table.headers, row, strict=True)) for row in table.rows]


def picture_of(records):
    """(axes, limits) of the only search."""
    ((search, limits),) = searches_of(records).items()
    (axes,) = breaking_point_figure(limits, search).axes
    return axes, limits


def caption_of(records):
    ((search, limits),) = searches_of(records).items()
    return breaking_point_caption(limits, search)


def test_how_far_each_gets_and_what_stopped_it(searches):
    records = searches()
    ends = {
        (record["framework"], record["variant"]): record["breaking_point"]
        for record in records
        if record["breaking_point"]
    }
    rows = rows_of(records)
    assert [(row["framework"], row["variant"]) for row in rows] == [
        *(("jax", "standard"), ("torch", "standard"), ("jax", "chunked"), ("torch", "chunked"))
    ]
    for row in rows:
        found = ends[row["framework"], row["variant"]]
        standard = ends[row["framework"], "standard"]
        ran, failed = found["largest_ran"], found["smallest_failed"]
        fits = 30_000 if row["variant"] == "standard" else 240_000
        assert ran <= fits < failed <= 1.05 * ran
        assert row["largest V that ran"] == f"{ran:,}"
        assert row["smallest out of memory"] == f"{failed:,}"
        assert row["x standard"] == f"{ran / standard['largest_ran']:.2f}"
        assert row["sizes tried"] == str(len(found["tried"]))
        allocation = f"{failed} bytes, as much as [N, V]; the backward pass"
        assert row["what failed"] == f"out of memory: {allocation}"
        assert row["status"] == "ok"


def test_reason_without_an_allocation_is_the_first_line_of_the_message(make_search):
    records = make_search()
    records[-1]["breaking_point"]["failure"] = {"message": "no room\nat all"}
    (row,) = rows_of(records)
    assert row["what failed"] == "out of memory: no room"


@pytest.mark.parametrize(("status", "words"), [("timeout", "timed out"), ("error", "error")])
@pytest.mark.parametrize("variant", ["standard", "chunked"])
def test_search_that_was_cut_short_says_so_and_has_no_ratio(make_search, status, words, variant):
    records = [
        *make_search(variant="standard", fits=30_000),
        *make_search(variant="chunked", fits=240_000),
        *make_search("jax", "standard"),
        *make_search("jax", "chunked", fits=60_000),
    ]
    cut = make_search(variant=variant, fits=240_000, cut_short=(20_000, status))
    records = [r for r in records if (r["framework"], r["variant"]) != ("torch", variant)] + cut
    rows = {(row["framework"], row["variant"]): row for row in rows_of(records)}
    row = rows["torch", variant]
    assert (row["largest V that ran"], row["smallest out of memory"]) == ("16,384", MISSING)
    assert (row["status"], row["what failed"]) == (words, f"{words}: stopped at 32768")
    assert rows["torch", "chunked"]["x standard"] == MISSING, "either might have got farther"
    assert rows["jax", "chunked"]["x standard"] != MISSING
    axes, _ = picture_of(records)
    assert f"16,384  (then stopped: {words})" in {text.get_text() for text in axes.texts}
    assert sum("x standard)" in text.get_text() for text in axes.texts) == 1
    (table,) = breaking_point_tables(records).tables
    assert status in table.statuses
    assert "PyTorch" not in caption_of(records)


@pytest.mark.parametrize(
    ("ended", "words", "in_picture"),
    [
        ({"fits": 0}, "out of memory", "none ran: out of memory"),
        ({"cut_short": (1, "unavailable")}, "unavailable", "unavailable"),
        ({"cut_short": (1, "timeout")}, "timed out", "timed out"),
        ({"cut_short": (1, "error")}, "error", "error"),
        ({"cut_short": (1, "mismatch")}, "mismatch", "mismatch"),
    ],
)
@pytest.mark.parametrize("others", [True, False], ids=["among others", "alone"])
def test_nothing_that_ran_has_no_bar_and_says_why(
    make_search, tmp_path, ended, words, in_picture, others
):
    is_limit = words == "out of memory"
    found = [*(make_search() if others else []), *make_search(variant="liger", **ended)]
    *_, row = rows_of(found)
    assert (row["largest V that ran"], row["x standard"], row["status"]) == (
        *(MISSING, MISSING, words),
    )
    assert row["what failed"].startswith(words)
    axes, _ = picture_of(found)
    assert len(axes.patches) == others, "no bar"
    assert len([line for line in axes.lines if line.get_marker() == "x"]) == others + is_limit
    assert in_picture in {text.get_text() for text in axes.texts}
    section = breaking_point_section(found, tmp_path)
    failures = [each.subject for each in section.failures]
    assert failures == ([] if is_limit else [f"torch liger at V = 8192: {words}"])
    assert len(section.plots) == (others or is_limit), "a picture of nothing is none"
    if is_limit and not others:
        assert section.plots[0].caption == "Within 2 GiB no size of PyTorch liger ran."


def test_caption_speaks_of_no_search_that_met_no_limit(make_search):
    nothing_fits = make_search(fits=0)
    cannot_run = make_search(variant="liger", cut_short=(1, "unavailable"))
    caption = caption_of([*nothing_fits, *cannot_run])
    assert caption == "Within 2 GiB no size of PyTorch standard ran."


@pytest.mark.parametrize("smallest_failed", [8192, None], ids=["older records", "records"])
def test_only_what_ran_out_of_memory_is_a_limit(make_search, smallest_failed):
    records = make_search(variant="liger", cut_short=(1, "unavailable"))
    records[-1]["breaking_point"]["smallest_failed"] = smallest_failed
    (row,) = rows_of(records)
    assert row["smallest out of memory"] == MISSING
    assert row["what failed"] == "unavailable: stopped at 8192"
    (failure,) = breaking_point_tables(records).failures
    assert failure.reason == "WorkerDied: stopped at 8192"
    axes, _ = picture_of(records)
    assert not axes.lines


def test_note_has_the_tolerance_of_the_records(make_search):
    records = make_search()
    assert "bisection to 5 %," in breaking_point_tables(records).notes[0]
    records[-1]["breaking_point"]["tolerance"] = 0.025
    assert "bisection to 2.5 %," in breaking_point_tables(records).notes[0]


def test_without_standard_there_is_no_ratio(make_search):
    records = [*make_search(variant="chunked", fits=240_000), *make_search("jax", "standard")]
    rows = {row["framework"]: row for row in rows_of(records)}
    assert rows["torch"]["x standard"] == MISSING, "that of the other framework is none"
    assert rows["jax"]["x standard"] == "1.00"


def test_tokens_are_counted_where_they_are_what_grows(make_search, tmp_path):
    records = make_search(axis="num_tokens")
    section = breaking_point_section(records, tmp_path)
    (row,) = rows_of(records)
    found = records[-1]["breaking_point"]
    assert row["largest N that ran"] == f"{found['largest_ran']:,}"
    assert section.lead == "Held fixed: D = 512, float32, CPU, memory limit 2 GiB, V = 32768."
    assert [plot.path.name for plot in section.plots] == ["breaking_point_num_tokens.png"]
    assert section.plots[0].title == "The largest N within 2 GiB"
    assert "N = " in section.plots[0].caption
    axes, _ = picture_of(records)
    assert axes.get_xlabel() == "number of tokens N"


@pytest.mark.usefixtures("drawn")
def test_each_limit_has_its_table_and_its_picture(make_search, tmp_path):
    records = [*make_search(memory_limit_gib=0.1), *make_search(fits=60_000, memory_limit_gib=None)]
    section = breaking_point_section(records, tmp_path)
    low, high = section.tables
    assert low.title.endswith("CPU, memory limit 0.1 GiB")
    assert high.title.endswith("CPU")
    assert (low.rows[0][4], high.rows[0][4]) == ("1.00", "1.00"), "of its own limit"
    assert [(plot.path.stem, plot.title) for plot in section.plots] == [
        ("breaking_point_vocab_size_1", "The largest V within 0.1 GiB"),
        ("breaking_point_vocab_size_2", "The largest V within the device's memory"),
    ]
    assert all(plot.path.read_bytes().startswith(b"\x89PNG") for plot in section.plots)


@pytest.mark.parametrize("axis", ["vocab_size", "num_tokens"])
def test_merged_runs_are_not_mixed(make_search, tmp_path, axis):
    runs = [named(name, "", make_search(axis=axis)) for name in ("old", "new")]
    section = breaking_point_section([r for run in runs for r in run.records], tmp_path)
    held = "N = 2048" if axis == "vocab_size" else "D = 512"
    assert [table.title.split(" tokens")[0].split(", float32")[0] for table in section.tables] == [
        *(f"run old, {held}", f"run new, {held}")
    ]
    assert [plot.title.partition("GiB ")[2] for plot in section.plots] == ["(run old)", "(run new)"]


def test_probes_are_in_no_table_picture_or_count(searches, sweep):
    records = searches()
    ends = [record for record in records if not is_probe(record)]
    assert len(ends) == 4 < len(records)
    assert breaking_point_tables(records) == breaking_point_tables(ends)
    assert len(picture_of(records)[0].patches) == 4
    assert case_counts(records) == f"4 cases: 4 ok ({len(records) - 4} sizes tried)"
    assert case_counts(ends) == "4 cases: 4 ok"
    probes = [record for record in records if is_probe(record)]
    assert breaking_point_tables(probes).is_empty
    assert case_counts(probes) == f"none ({len(probes)} sizes tried)"


def test_search_whose_worker_died_before_it_named_its_device_stays_with_the_others(make_search):
    records = [*make_search(), *make_search(variant="chunked", cut_short=(1, "error"))]
    records[-1]["device"] = None
    (table,) = closing_tables(records)
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    said = console.file.getvalue()
    assert "unknown" not in said
    assert all(variant in said for variant in ("standard", "chunked"))


@pytest.mark.parametrize(
    ("fits", "caption"),
    [
        (
            {("torch", "standard"): 32_768, ("torch", "chunked"): 131_072},
            "Within 2 GiB chunked reaches 4x standard's in PyTorch (V = 131,072).",
        ),
        (
            {
                ("torch", "standard"): 65_536,
                ("torch", "chunked"): 32_768,
                ("jax", "standard"): 32_768,
                ("jax", "chunked"): 131_072,
            },
            "Within 2 GiB chunked reaches 4x standard's in JAX (V = 131,072) and 0.5x standard's "
            "in PyTorch (V = 32,768).",
        ),
        (
            {("torch", "chunked"): 32_768, ("jax", "chunked"): 65_536},
            "Within 2 GiB JAX chunked gets farthest: V = 65,536.",
        ),
        (
            {("torch", "standard"): 0, ("torch", "chunked"): 32_768},
            "Within 2 GiB PyTorch chunked gets farthest: V = 32,768.",
        ),
    ],
    ids=["one framework", "both", "no standard", "standard never ran"],
)
def test_caption(make_search, fits, caption):
    records = [r for who, size in fits.items() for r in make_search(*who, fits=size)]
    for record in records:
        if record["breaking_point"] and record["breaking_point"]["largest_ran"]:
            record["breaking_point"]["largest_ran"] = fits[record["framework"], record["variant"]]
    assert caption_of(records) == caption


def test_bars_are_as_long_as_the_largest_and_crosses_at_the_smallest_that_did_not_run(searches):
    axes, limits = picture_of(searches())
    titles = [label.get_text() for label in axes.get_yticklabels()]
    assert titles == [limit.series.title for limit in limits]
    assert [bar.get_width() for bar in axes.patches] == [limit.largest_ran for limit in limits]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert [list(line.get_xdata()) for line in crosses] == [
        [each.smallest_failed] for each in limits
    ]
    for bar, cross, limit in zip(axes.patches, crosses, limits, strict=True):
        assert bar.get_facecolor()[:3] == pytest.approx(
            tuple(int(limit.series.colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        )
        assert cross.get_color() == limit.series.colour
    words = [text.get_text() for text in axes.texts if text.get_text()[0].isdigit()]
    assert [text.partition("  ")[0] for text in words] == [
        f"{each.largest_ran:,}" for each in limits
    ]
    ratios = [text.partition("  ")[2] for text in words]
    assert dict(zip(titles, ratios, strict=True))["JAX standard"] == ""
    assert dict(zip(titles, ratios, strict=True))["JAX chunked"].endswith("x standard)")


def test_search_in_which_nothing_failed_has_no_cross(make_search):
    records = make_search(fits=2**32)
    (row,) = rows_of(records)
    assert (row["largest V that ran"], row["smallest out of memory"]) == (f"{2**31 - 1:,}", MISSING)
    assert (row["what failed"], row["status"]) == (MISSING, "ok")
    axes, _ = picture_of(records)
    assert not [line for line in axes.lines if line.get_marker() == "x"]
