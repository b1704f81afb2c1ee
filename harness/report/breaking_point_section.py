"""The section of the breaking points: how far each variant gets, and what stopped it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from harness.report.failures import failures
from harness.report.formats import MISSING, ratio, times
from harness.report.limits import Limit, Search, over_standard, searches
from harness.report.measures import Record
from harness.report.naming import framework_title, listed, status_words
from harness.report.rows import make_rows
from harness.report.section import Plot, Section, TableText

TITLE = "Breaking points"


def breaking_point_section(records: Sequence[Record], directory: Path) -> Section:
    """From the searches alone; the pictures are written into `directory`."""
    found = searches(records)
    plots = [
        _draw(limits, search, directory, f"_{index + 1}" if len(found) > 1 else "", found.keys())
        for index, (search, limits) in enumerate(found.items())
        if not all(limit.is_empty for limit in limits)
    ]
    return replace(breaking_point_tables(records), plots=tuple(plots))


def breaking_point_tables(records: Sequence[Record]) -> Section:
    """The section without its pictures."""
    found = searches(records)
    several = len(found) > 1
    return Section(
        title=TITLE,
        lead=f"Held fixed: {'; '.join(search.described for search in found)}." if found else "",
        tables=tuple(
            _table(limits, search, search.described if several else "")
            for search, limits in found.items()
        ),
        notes=(_note(found.values()),) if found else (),
        failures=tuple(failures(make_rows(_without_result(found.values())))),
    )


def _note(found: Collection[Sequence[Limit]]) -> str:
    tolerances = sorted({limit.tolerance for limits in found for limit in limits})
    percents = listed([f"{100 * each:g} %" for each in tolerances])
    return (
        f"Found by doubling, then bisection to {percents}, each size in a process of its own under "
        "the limit. x standard: over what the full-logits loss of the same framework reaches, "
        "where both searches came to their end. What failed is the smallest size that ran out of "
        "memory, or what else ended the search."
    )


def _without_result(found: Collection[Sequence[Limit]]) -> list[Record]:
    return [limit.record for limits in found for limit in limits if limit.is_empty]


def _table(limits: Sequence[Limit], search: Search, title: str) -> TableText:
    rows = [
        (
            limit.series.framework,
            limit.series.label,
            _count(limit.largest_ran),
            _count(limit.smallest_failed),
            ratio(over_standard(limit, limits)),
            str(limit.tried),
            limit.how_it_failed or MISSING,
            status_words(limit.record["status"]),
        )
        for limit in limits
    ]
    return TableText(
        title=title,
        headers=(
            "framework", "variant", f"largest {search.symbol} that ran", "smallest out of memory",
            "x standard", "sizes tried", "what failed", "status",
        ),
        numeric=(False, False, True, True, True, True, False, False),
        rows=tuple(rows),
        statuses=tuple(limit.record["status"] for limit in limits),
        starts_group=tuple(
            index == 0 or limits[index - 1].series.label != limit.series.label
            for index, limit in enumerate(limits)
        ),
    )  # fmt: skip


def _count(size: int | None) -> str:
    return MISSING if size is None else f"{size:,}"


def _draw(
    limits: Sequence[Limit],
    search: Search,
    directory: Path,
    suffix: str,
    among: Collection[Search],
) -> Plot:
    from harness.report.axes import save
    from harness.report.breaking_point_plot import breaking_point_figure

    path = directory / f"breaking_point_{search.axis}{suffix}.png"
    save(breaking_point_figure(limits, search), path)
    which = search.set_apart(among)
    title = f"The largest {search.symbol} within {search.within}" + (f" ({which})" if which else "")
    return Plot(path, title, breaking_point_caption(limits, search))


def breaking_point_caption(limits: Sequence[Limit], search: Search) -> str:
    """E.g. "Within 2 GiB chunked reaches 6.2x standard's V in PyTorch and 5.7x in JAX"."""
    clauses = [
        f"{times(factor)} standard's in {framework_title(limit.series.framework)} "
        f"({search.symbol} = {limit.largest_ran:,})"
        for limit in limits
        if limit.series.variant == "chunked"
        and limit.largest_ran is not None
        and (factor := over_standard(limit, limits)) is not None
    ]
    if clauses:
        return f"Within {search.within} chunked reaches {listed(clauses)}."
    reached = [limit for limit in limits if limit.largest_ran is not None]
    if not reached:
        # What cannot run here at all has not met this limit.
        titles = [limit.series.title for limit in limits if not limit.is_empty]
        return f"Within {search.within} no size of {listed(titles)} ran."
    best = max(reached, key=lambda limit: limit.largest_ran or 0)
    return (
        f"Within {search.within} {best.series.title} gets farthest: "
        f"{search.symbol} = {best.largest_ran:,}."
    )
