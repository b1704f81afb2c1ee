"""Bars of the largest size that ran, a mark at the smallest that ran out of memory."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report.axes import GREY, name_bars, new_figure
from harness.report.formats import times
from harness.report.limits import AXIS_TITLES, Limit, Search, over_standard
from harness.report.measures import is_ok
from harness.report.naming import status_words

_BAR_INCHES = 0.42


def breaking_point_figure(limits: Sequence[Limit], search: Search) -> Figure:
    """A bar for each variant of each framework, those of a variant together."""
    title = f"Breaking points: the largest {search.symbol} within {search.within}"
    figure, axes = new_figure(title, search.described, "")
    figure.set_size_inches(9.0, 2.4 + _BAR_INCHES * len(limits))
    for place, limit in enumerate(limits):
        _draw(axes, limit, place, over_standard(limit, limits))
    name_bars(axes, [limit.series.title for limit in limits])
    reached = [size for each in limits for size in (each.largest_ran, each.smallest_failed) if size]
    axes.set_xlim(0, max(reached, default=1) * 1.32)
    axes.set_xlabel(AXIS_TITLES[search.axis])
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    figure.legend(
        handles=_legend(limits), loc="outside lower left", ncols=4, frameon=False, fontsize=8.5
    )
    return figure


def _draw(axes: Axes, limit: Limit, place: int, ratio: float | None) -> None:
    ran = limit.largest_ran or 0
    if ran:
        axes.barh(place, ran, 0.68, color=limit.series.colour, alpha=0.85)
    if limit.smallest_failed is not None:
        axes.plot(
            limit.smallest_failed, place, "x", color=limit.series.colour, markersize=7,
            markeredgewidth=2.2,
        )  # fmt: skip
    axes.annotate(
        _words(limit, ratio), (max(ran, limit.smallest_failed or 0), place), xytext=(9, 0),
        textcoords="offset points", va="center", fontsize=8.5,
    )  # fmt: skip


def _words(limit: Limit, ratio: float | None) -> str:
    status = status_words(limit.record["status"])
    if limit.is_empty:
        return status
    if limit.largest_ran is None:
        return f"none ran: {status}"
    if not is_ok(limit.record):
        return f"{limit.largest_ran:,}  (then stopped: {status})"
    if ratio is None or limit.series.variant == "standard":
        return f"{limit.largest_ran:,}"
    return f"{limit.largest_ran:,}  ({times(ratio)} standard)"


def _legend(limits: Sequence[Limit]) -> list[Patch | Line2D]:
    frameworks = {each.series.framework_title: each.series.colour for each in limits}
    return [
        *(Patch(facecolor=colour, label=f"{name}: ran") for name, colour in frameworks.items()),
        Line2D(
            [], [], color=GREY, linestyle="none", marker="x", markersize=7, markeredgewidth=2.2,
            label="the smallest that ran out of memory",
        ),
    ]  # fmt: skip
