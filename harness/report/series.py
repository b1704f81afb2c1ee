"""Records as the series of a plot: one per framework and variant, each with its look.

The framework gives the colour, the variant the marker and the line, so that either can be
followed across a picture. Colours are those of Okabe and Ito, told apart by colour-blind
readers (Color Universal Design, 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TypeVar

from harness.report.measures import Conditions, Record, conditions, is_ok
from harness.report.naming import framework_title, label_order, variant_labels, variant_order

LineStyle = str | tuple[int, tuple[int, ...]]
Look = TypeVar("Look")


@dataclass(frozen=True)
class VariantStyle:
    marker: str
    line: LineStyle


FRAMEWORK_COLOURS = {"jax": "#0072B2", "torch": "#D55E00"}
_OTHER_COLOURS = ("#009E73", "#CC79A7", "#56B4E9", "#E69F00")
VARIANT_STYLES = {
    "standard": VariantStyle("o", "-"),
    "chunked": VariantStyle("s", (0, (6, 2))),
    "two_pass": VariantStyle("^", "-."),
    "one_pass": VariantStyle("v", (0, (8, 2, 1, 2))),
    "floor": VariantStyle("_", ":"),
}
_OTHER_STYLES = (
    VariantStyle("D", (0, (3, 1, 1, 1))),
    VariantStyle("P", (0, (4, 4))),
    VariantStyle("X", (0, (1, 2))),
    VariantStyle("<", (0, (5, 1, 1, 1, 1, 1))),
    VariantStyle(">", (0, (2, 1))),
    VariantStyle("p", (0, (7, 3))),
    VariantStyle("h", (0, (1, 1, 4, 1))),
)


@dataclass(frozen=True, eq=False)
class Series:
    """The cases of one framework and variant under one set of conditions.

    Compared by identity, as the records that it holds have no hash.
    """

    framework: str
    variant: str
    label: str
    rank: int
    """The place of its framework among those of the run."""
    colour: str
    style: VariantStyle
    results: tuple[Record, ...]
    out_of_memory: tuple[int, ...]
    """The vocabularies at which the case ran out of memory."""

    @property
    def title(self) -> str:
        return f"{self.framework_title} {self.label}"

    @property
    def framework_title(self) -> str:
        return framework_title(self.framework)

    def at(self, vocab_size: int) -> Record | None:
        found = [record for record in self.results if record["vocab_size"] == vocab_size]
        return found[-1] if found else None


def by_conditions(records: Sequence[Record]) -> dict[Conditions, list[Record]]:
    groups: dict[Conditions, list[Record]] = {}
    for record in records:
        groups.setdefault(conditions(record), []).append(record)
    return groups


def make_series(records: Sequence[Record], styled_by: Sequence[Record]) -> list[Series]:
    """The series of one picture, standard first and the yardsticks last.

    `styled_by` are all records of the run: a look is given out over the run, so that a
    variant looks the same in each of its pictures.
    """
    frameworks = sorted({record["framework"] for record in styled_by})
    colours = _given_out(FRAMEWORK_COLOURS, _OTHER_COLOURS, frameworks)
    labels = variant_labels(records)
    all_labels = [*variant_labels(styled_by), *labels]
    styles = _given_out(VARIANT_STYLES, _OTHER_STYLES, sorted(all_labels, key=variant_order))
    grouped: dict[tuple[str, str, str], list[Record]] = {}
    for record, label in zip(records, labels, strict=True):
        grouped.setdefault((record["framework"], record["variant"], label), []).append(record)
    series = [
        Series(
            framework=framework,
            variant=variant,
            label=label,
            rank=frameworks.index(framework),
            colour=colours[framework],
            style=styles[label],
            results=tuple(sorted(filter(is_ok, each), key=lambda record: record["vocab_size"])),
            out_of_memory=tuple(
                sorted({record["vocab_size"] for record in each if record["status"] == "oom"})
            ),
        )
        for (framework, variant, label), each in grouped.items()
    ]
    return sorted(
        series,
        key=lambda each: (variant_order(each.variant), label_order(each.label), each.framework),
    )


def _given_out(
    known: dict[str, Look], others: Iterable[Look], names: Iterable[str]
) -> dict[str, Look]:
    looks = dict(known)
    remaining = cycle(others)
    for name in names:
        if name not in looks:
            looks[name] = next(remaining)
    return looks


def vocabularies(series: Sequence[Series], has_value: Callable[[Record], bool]) -> list[int]:
    """The vocabularies that a picture shows: those with a value or an out-of-memory mark."""
    shown = {
        record["vocab_size"] for each in series for record in each.results if has_value(record)
    }
    return sorted(shown.union(*(each.out_of_memory for each in series)))
