"""A report of several kinds of records: each kind in its own section, and nowhere else."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from harness.report import write_report
from harness.report.anatomy_section import anatomy_section, anatomy_tables
from harness.report.breaking_point_section import breaking_point_section, breaking_point_tables
from harness.report.sweep_section import sweep_section, sweep_tables
from harness.report.tables import closing_tables

TITLES = {
    "sweep": "Variants by shape",
    "anatomy": "Where the bytes are",
    "breaking_point": "Breaking points",
}
PLOTS = {"sweep": 4, "anatomy": 2, "breaking_point": 1}
TABLES = {"sweep": sweep_tables, "anatomy": anatomy_tables, "breaking_point": breaking_point_tables}
SECTIONS = {
    "sweep": sweep_section,
    "anatomy": anatomy_section,
    "breaking_point": breaking_point_section,
}
KINDS = [
    ("sweep",),
    ("anatomy",),
    ("breaking_point",),
    ("anatomy", "breaking_point"),
    tuple(TITLES),
]


@pytest.fixture
def by_mode(sweep, anatomies, searches):
    return {"sweep": sweep((8192,)), "anatomy": anatomies(), "breaking_point": searches()}


def mixed(by_mode, modes):
    """Those records, none beside its like."""
    several = [list(by_mode[mode]) for mode in modes]
    return [each.pop() for _ in range(max(map(len, several))) for each in several if each][::-1]


@pytest.mark.parametrize("mode", TITLES)
def test_no_section_shows_the_records_of_another_mode(by_mode, mode, tmp_path):
    own, everything = mixed(by_mode, [mode]), mixed(by_mode, TITLES)
    assert not TABLES[mode](own).is_empty
    assert TABLES[mode](everything) == TABLES[mode](own)
    assert SECTIONS[mode](everything, tmp_path) == SECTIONS[mode](own, tmp_path)


@pytest.mark.parametrize("mode", TITLES)
def test_records_of_other_modes_alone_are_no_section(by_mode, mode, tmp_path):
    others = mixed(by_mode, [other for other in TITLES if other != mode])
    assert SECTIONS[mode](others, tmp_path).is_empty
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("modes", KINDS, ids=" ".join)
def test_both_forms_have_a_section_for_each_kind_that_there_is(by_mode, modes, tmp_path):
    report = write_report(mixed(by_mode, modes), tmp_path, "python -m harness.run")
    html, summary = report.read_text(), (tmp_path / "summary.md").read_text()
    wanted = [TITLES[mode] for mode in TITLES if mode in modes]
    for text, heading in ((html, r"<h2>(.*)</h2>"), (summary, r"(?m)^## (.*)$")):
        assert re.findall(heading, text) == [*wanted, "Environment", "Command", "Words"]
        assert "No records." not in text
    assert html.count("<img") == summary.count("![") == sum(PLOTS[mode] for mode in modes)
    images = re.findall(r"!\[[^]]*\]\(([^)]*)\)", summary)
    assert sorted(images) == sorted(path.name for path in tmp_path.glob("*.png"))


def test_failed_anatomies_alone_are_a_section_of_reasons(make_anatomy, tmp_path):
    report = write_report([make_anatomy(status="oom")], tmp_path, "python -m harness.run")
    for text in (report.read_text(), (tmp_path / "summary.md").read_text()):
        assert "No step could be taken apart." in text
        assert "torch standard at V = 8192: out of memory" in text
        assert "OutOfMemoryError: tried 512 MiB" in text


@pytest.mark.parametrize("modes", KINDS, ids=" ".join)
def test_a_run_closes_with_a_table_for_each_kind(by_mode, modes):
    tables = closing_tables(mixed(by_mode, modes))
    assert len(tables) == len(modes)
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(*tables)
    said = console.file.getvalue()
    assert max(map(len, said.splitlines())) <= 120
    assert "\u2026" not in said, "no cell is cut"
    starts = {
        "sweep": "LM-head loss: N = 2048",
        "anatomy": "One step: N = 2048",
        "breaking_point": "Held fixed: N = 2048",
    }
    assert {mode for mode, start in starts.items() if start in said} == set(modes)


def test_a_run_without_records_closes_with_words():
    (table,) = closing_tables([])
    assert str(table.title) == "No records"
