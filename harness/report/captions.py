"""Captions computed from the records: one sentence that says what a picture shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.report.formats import times
from harness.report.measures import Record
from harness.report.naming import listed
from harness.report.quantity import ADDITIONAL_MEMORY, PEAK_MEMORY, STEP_TIME, Quantity
from harness.report.series import Series


@dataclass(frozen=True)
class Comparison:
    """A variant against standard, in one framework at one vocabulary."""

    framework_title: str
    vocab_size: int
    record: Record
    standard: Record

    def ratio(self, quantity: Quantity) -> float:
        own, other = quantity.value(self.record), quantity.value(self.standard)
        return own.median / other.median if own and other and other.median > 0 else float("nan")


def quantity_caption(quantity: Quantity, series: Sequence[Series], probes: str = "") -> str:
    """E.g. "At V=32768 chunked takes 1.10x the time of standard in JAX and 1.20x in PyTorch."."""
    title = f"{quantity.title} against the vocabulary"
    if quantity is STEP_TIME:
        return _sentence(series, [quantity], "{} takes", _time_clause, title)
    if quantity is PEAK_MEMORY:
        return _sentence(series, [quantity], "{} peaks", _peak_clause, title, probes)
    claim = "{} needs, beyond the inputs,"
    return _sentence(series, [quantity], claim, _additional_clause, title, probes)


def tradeoff_caption(series: Sequence[Series], probes: str = "") -> str:
    return _sentence(
        series,
        [ADDITIONAL_MEMORY, STEP_TIME],
        "{} needs, beyond the inputs,",
        lambda pair, first: (
            f"{_additional_clause(pair, first)} for {pair.ratio(STEP_TIME):.2f}x the time"
        ),
        "Step time against memory beyond the inputs",
        probes,
    )


def _time_clause(pair: Comparison, first: bool) -> str:
    return f"{pair.ratio(STEP_TIME):.2f}x{' the time of standard' if first else ''}"


def _peak_clause(pair: Comparison, first: bool) -> str:
    return _memory_clause(pair.ratio(PEAK_MEMORY), "lower", "higher", first)


def _additional_clause(pair: Comparison, first: bool) -> str:
    return _memory_clause(pair.ratio(ADDITIONAL_MEMORY), "less", "more", first)


def _memory_clause(ratio: float, fewer: str, more: str, first: bool) -> str:
    if abs(ratio - 1) < 0.02:
        return "about the same" + (" as standard" if first else "")
    factor = f"{times(1 / ratio)} {fewer}" if ratio < 1 else f"{times(ratio)} {more}"
    return factor + (" than standard" if first else "")


def _sentence(
    series: Sequence[Series],
    quantities: Sequence[Quantity],
    claim: str,
    clause: Callable[[Comparison, bool], str],
    otherwise: str,
    probes: str = "",
) -> str:
    """The claim with a clause per framework, then what ran out of memory, then the probes.

    The first clause names standard, the others need not.
    `otherwise` opens the sentence where no variant can be held against standard.
    """
    label = _subject(series)
    pairs = _comparisons(series, label, quantities) if label is not None else []
    text = otherwise
    if label is not None and pairs:
        sizes = {pair.vocab_size for pair in pairs}
        one = len(sizes) == 1
        clauses = [
            f"{clause(pair, index == 0)} in {pair.framework_title}"
            + ("" if one else f" (V={pair.vocab_size})")
            for index, pair in enumerate(pairs)
        ]
        text = f"{claim.format(label)} {listed(clauses)}"
        text = f"At V={sizes.pop()} {text}" if one else text[:1].upper() + text[1:]
    parts = [text, *_ran_out(series), *([f"memory measured in {probes}"] if probes else [])]
    return "; ".join(parts) + "."


def _subject(series: Sequence[Series]) -> str | None:
    """The variant that a caption speaks of: chunked, or else the first of the others."""
    labels = [each.label for each in series if each.variant not in ("standard", "floor")]
    return labels[0] if labels else None


def _comparisons(
    series: Sequence[Series], label: str, quantities: Sequence[Quantity]
) -> list[Comparison]:
    """For each framework, the largest vocabulary at which both variants have values."""
    found: dict[str, Comparison] = {}
    standards = {each.framework: each for each in series if each.variant == "standard"}
    for each in series:
        standard = standards.get(each.framework)
        if each.label != label or standard is None:
            continue
        for record in each.results:
            other = standard.at(record["vocab_size"])
            if other is not None and all(q.shows(record) and q.shows(other) for q in quantities):
                # Results are sorted by vocabulary, so the largest is the one that stays.
                found[each.framework] = Comparison(
                    each.framework_title, record["vocab_size"], record, other
                )
    return [found[framework] for framework in sorted(found)]


def _ran_out(series: Sequence[Series]) -> list[str]:
    titles: dict[tuple[int, ...], list[str]] = {}
    for each in series:
        if each.out_of_memory:
            titles.setdefault(each.out_of_memory, []).append(each.title)
    return [
        f"{listed(names)} ran out of memory at V={listed([str(size) for size in sizes])}"
        for sizes, names in titles.items()
    ]
