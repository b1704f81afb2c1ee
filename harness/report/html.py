"""Writes `report.html`: the summary as one file that opens offline."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.report.environment import environment_facts
from harness.report.failures import failures
from harness.report.glossary import glossary
from harness.report.measures import Record, settle
from harness.report.plots import Plot
from harness.report.rows import make_rows
from harness.report.summary import TITLE
from harness.report.tables import notes, shared_conditions, table_texts


def write_html(
    records: Sequence[Record], plots: Sequence[Plot], directory: Path, command: str
) -> Path:
    """Writes `report.html` into `directory` and returns its path."""
    settled = settle(records)
    rows = make_rows(settled)
    # Error messages come from other people's programs: everything is escaped.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=TITLE,
        command=command,
        facts=environment_facts(settled),
        conditions=shared_conditions(rows) if rows else "",
        tables=table_texts(rows),
        notes=notes(rows),
        failures=failures(rows),
        plots=[(plot, _embedded(plot.path)) for plot in plots],
        glossary=glossary(settled),
    )
    path = directory / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _embedded(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
