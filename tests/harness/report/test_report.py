"""The written report: two forms of one content, safe to open, light to import."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from harness.report import write_report
from harness.report.page import make_page
from harness.report.run import Run

COMMAND = "python -m harness.run --framework=all --note='<b>'"


class Page(HTMLParser):
    """The cells of a page and all that it would load."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.tags, self.sources, self.in_cell = [], set(), [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.in_cell = tag == "td"
        self.cells += [""] if self.in_cell else []
        self.sources += [v for k, v in attributes if k in ("src", "href", "srcset")]

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag != "td"

    def handle_data(self, data):
        if self.in_cell:
            self.cells[-1] += data


@pytest.fixture
def records(sweep, make_record):
    message = "<script>alert(1)</script> | `x`\nmore"
    failed = make_record(
        variant="liger", status="error", error={"type": "RuntimeError", "message": message}
    )
    return [*sweep(out_of_memory=[("torch", "standard", 32768)]), failed]


def test_html_is_self_contained_and_escapes_messages(records, tmp_path):
    path = write_report(records, tmp_path / "new" / "folder", COMMAND)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert path.name == "report.html"
    assert "http" not in text
    assert "url(" not in text
    assert "@import" not in text
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert "b" not in page.tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_html_and_summary_hold_the_same_cells(records, tmp_path):
    page = Page(write_report(records, tmp_path, COMMAND).read_text(encoding="utf-8"))
    content = make_page([Run("", COMMAND, tuple(records))], tmp_path)
    (section,) = content.sections
    tables = [*section.tables, *section.details, content.environment]
    rows = [row for table in tables for row in table.rows]
    assert page.cells == [cell for row in rows for cell in row]
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    for row in rows:
        assert f"| {' | '.join(row)} |" in summary


def test_both_forms_go_from_what_was_measured_to_how_and_on_what(records, tmp_path):
    html = write_report(records, tmp_path, COMMAND).read_text(encoding="utf-8")
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    html = html[html.index("<body>") :]
    for text, image in ((html, "<img"), (summary, "![")):
        places = [
            text.index(part)
            for part in (
                "LM-head loss: time and memory",
                "JAX 1.0 and PyTorch 1.0 on Example CPU, 4 cores; 19 cases: 17 ok, 1 out of memory",
                "Variants by shape",
                "All rows: N = 2048 tokens (1 x 2048), D = 512, float32, CPU.",
                "error / tolerance",
                "Times are medians",
                "Cases without a result to count",
                image,
                "forward ms",
                "hidden gradient error",
                "Environment",
                "Command",
                "--note=",
                "Words",
            )
        ]
        assert places == sorted(places)


def test_summary_names_command_environment_plots_and_words(records, tmp_path):
    write_report(records, tmp_path, COMMAND)
    summary = (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert COMMAND in summary
    for name, value in (
        ("measured", "19 cases: 17 ok, 1 out of memory, 1 error"),
        ("CPU", "Example CPU, 4 cores"),
        ("threads", "2"),
        ("jax", "1.0"),
        ("torch", "1.0"),
        ("git revision", "abc1234"),
    ):
        assert f"| {name} | {value} |" in summary
    images = re.findall(r"!\[[^]]*\]\(([^)]*)\)", summary)
    assert len(images) == 4
    assert all((tmp_path / image).is_file() for image in images)
    for word in ("inputs", "gradients", "peak", "additional", "workspace", "reserved", "host_rss"):
        assert f"- **{word}**: " in summary
    # Inside a code span only, where it is text.
    assert "(`RuntimeError: <script>alert(1)</script> | 'x'`)" in summary


@pytest.mark.parametrize("environment", [None, {}, {"versions": None, "cpu": None}])
def test_report_of_records_that_lack_everything(make_record, tmp_path, environment):
    record = make_record(status="unavailable", device=None, options=None, environment=environment)
    assert write_report([record], tmp_path, COMMAND).is_file()
    assert write_report([], tmp_path, COMMAND).is_file()
