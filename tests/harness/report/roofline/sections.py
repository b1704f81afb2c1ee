"""What the tests of what bounds a step have in common."""

from __future__ import annotations

from harness.report.measures import settle
from harness.report.roofline import ceilings, steps
from harness.report.roofline_section import roofline_section
from harness.report.rows import make_rows


def table(section, title):
    """The rows of a table as {header: cell}."""
    (found,) = [each for each in section.tables if each.title == title]
    return [dict(zip(found.headers, row, strict=True)) for row in found.rows]


def device_rows(records, directory):
    return table(roofline_section(records, directory), "What the device gives")


def step_rows(records, directory):
    return table(roofline_section(records, directory), "Where the time goes")


def steps_of(records):
    settled = settle(records)
    return steps(make_rows(settled), ceilings(settled))
