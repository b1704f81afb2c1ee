"""Writes `report.html`: the page as one file that opens offline."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.report.page import Page


def write_html(page: Page, directory: Path) -> Path:
    """Writes `report.html` into `directory` and returns its path."""
    # Error messages come from other people's programs: everything is escaped.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("report.html.j2").render(page=page, embedded=_embedded)
    path = directory / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


def _embedded(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
