"""What the splits say in sentences, each of which is worked out from the figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from harness.report.formats import milliseconds, number
from harness.report.measures import Conditions
from harness.report.naming import listed, set_apart
from harness.report.roofline import Split, Step

READ = ("standard", "chunked")
"""The variants that the sentences are about."""

# Of the difference between two steps: a part as large as this is what makes it.
_MOST = 0.75
# Of a step: what is not worth a word.
_ALIKE = 0.005


def readings(steps: Sequence[Step]) -> list[str]:
    """A paragraph for each shape at which two frameworks have a variant to compare."""
    shapes: dict[tuple[Conditions, int], list[Step]] = {}
    for step in steps:
        key = step.split.ceilings.key
        shapes.setdefault((key.conditions, key.vocab_size), []).append(step)
    among = {held for held, _ in shapes}
    found = []
    for (held, vocab_size), group in shapes.items():
        where = ", ".join(filter(None, [set_apart(held, among), f"V = {vocab_size:,}"]))
        if sentences := [_sentence(one, other) for one, other in _pairs(group)]:
            found.append(f"{where}: {' '.join(sentences)}")
    return found


def bounds_caption(steps: Sequence[Step]) -> str:
    """E.g. "At V = 32,768 matmuls are 58 % of standard and 92 % of chunked in JAX.", of one V."""
    shares: dict[str, list[str]] = {}
    for step in _read(steps) or steps:
        share = f"{100 * step.split.matmuls_share:.0f} % of {step.row.label}"
        shares.setdefault(step.framework_title, []).append(share)
    clauses = [f"{listed(each)} in {framework}" for framework, each in shares.items()]
    size = steps[0].split.ceilings.key.vocab_size
    return f"At V = {size:,} matmuls are {'; '.join(clauses)}."


def _read(steps: Sequence[Step]) -> list[Step]:
    return [step for step in steps if step.row.record["variant"] in READ]


def _pairs(steps: Sequence[Step]) -> list[tuple[Step, Step]]:
    """Of one variant in two frameworks, the faster first; by variant."""
    labels = dict.fromkeys(step.row.label for step in _read(steps))
    return [
        (one, other) if one.split.step_s <= other.split.step_s else (other, one)
        for label in labels
        for one, other in combinations([step for step in steps if step.row.label == label], 2)
        if one.row.record["framework"] != other.row.record["framework"]
    ]


def _sentence(fast: Step, slow: Step) -> str:
    """E.g. "standard is faster in JAX, 900 ms against PyTorch's 1,000, by its matmuls. ..."."""
    one, other = fast.framework_title, slow.framework_title
    times = f"{milliseconds(fast.split.step_s)} ms against {other}'s "
    times += milliseconds(slow.split.step_s)
    verdict = f"is faster in {one}, {times}, by {_what(fast.split, slow.split)}"
    if _overlap(fast, slow):
        verdict = f"is as fast in {one}, {times}, within the spread"
    alike_s = _ALIKE * slow.split.step_s
    matmuls = _difference(slow.split.matmuls_s - fast.split.matmuls_s, alike_s)
    rest = _difference(slow.split.rest_s - fast.split.rest_s, alike_s)
    return (
        f"{fast.row.label} {verdict}. {one}'s matmuls take {matmuls} "
        f"({_matmuls(fast.split, slow.split)}), its rest {rest}{_rests(fast.split, slow.split)}."
    )


def _what(fast: Split, slow: Split) -> str:
    """What the difference comes from."""
    matmuls_s, rest_s = slow.matmuls_s - fast.matmuls_s, slow.rest_s - fast.rest_s
    whole_s = matmuls_s + rest_s
    if matmuls_s >= _MOST * whole_s:
        return "its matmuls"
    return "its rest" if rest_s >= _MOST * whole_s else "its matmuls and its rest"


def _overlap(fast: Step, slow: Step) -> bool:
    """Whether some step of the slower one took no longer than one of the faster one."""
    assert fast.row.step is not None
    assert slow.row.step is not None
    return slow.row.step.low <= fast.row.step.high


def _difference(seconds: float, alike_s: float) -> str:
    if abs(seconds) < alike_s:
        return "as long"
    return f"{milliseconds(abs(seconds))} ms {'less' if seconds >= 0 else 'more'}"


def _matmuls(fast: Split, slow: Split) -> str:
    """E.g. "6 NVD at 0.27 TFLOP/s against 8 at 0.25", or the rates alone."""
    rates = [number(each.ceilings.flops_per_s / 1e12) for each in (fast, slow)]
    if fast.flops == slow.flops:
        return "{} against {} TFLOP/s".format(*rates)
    return f"{fast.nvd:g} NVD at {rates[0]} TFLOP/s against {slow.nvd:g} at {rates[1]}"


def _rests(fast: Split, slow: Split) -> str:
    """E.g. " (9.1 bytes a logit at 12 GB/s against 14 at 11)"; nothing where nothing is left."""
    one, other = fast.rest_bytes_per_logit, slow.rest_bytes_per_logit
    rates = [number(each.ceilings.bytes_per_s / 1e9) for each in (fast, slow)]
    if one is None and other is None:
        return ""
    if one is None:
        return f" (none against {number(other)} bytes a logit at {rates[1]} GB/s)"
    against = "none" if other is None else f"{number(other)} at {rates[1]}"
    return f" ({number(one)} bytes a logit at {rates[0]} GB/s against {against})"
