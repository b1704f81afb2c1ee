"""What the pictures of an anatomy show, in a sentence each."""

from __future__ import annotations

from collections.abc import Sequence

from harness.memory.anatomy import GRADIENT, UNUSED, WORKSPACE
from harness.report.dissected import COMPARED, Dissected
from harness.report.formats import size, times
from harness.report.naming import framework_title, listed


def peak_caption(steps: Sequence[Dissected]) -> str:
    """E.g. "PyTorch standard holds 836 MiB, 768 MiB of it workspace (3 buffers of 256 MiB)"."""
    clauses = []
    for subject, step in _worth_naming(steps):
        workspace = step.total(WORKSPACE)
        clause = f"{subject} holds {size(step.peak_bytes)}, {size(workspace)} of it workspace"
        if (largest := step.largest) is not None:
            alike = [
                part
                for part in step.parts
                if part.kind == WORKSPACE and part.size_bytes > 0.9 * largest.size_bytes
            ]
            what = f"{len(alike)} x " if len(alike) > 1 else ""
            clause += f" ({what}{size(largest.size_bytes)}: {listed([p.name for p in alike])})"
        if (unused := step.total(UNUSED)) >= 0.01 * step.peak_bytes:
            clause += f" and {size(unused)} not in use just then"
        if step.total(GRADIENT) < 0.01 * step.peak_bytes:
            clause += ", before a gradient is there"
        clauses.append(clause)
    return _sentence(clauses)


def timeline_caption(steps: Sequence[Dissected]) -> str:
    """How high each line gets, and when."""
    clauses = []
    for subject, step in _worth_naming(steps):
        # When it gets there: on a plateau the very highest moment may be the last.
        second = next(at for at, alive in step.timeline if alive >= 0.99 * step.most_bytes)
        where = "in the forward pass"
        if step.backward_s is not None and second >= step.backward_s:
            where = "in the backward pass"
        clauses.append(
            f"{subject} is highest {where}, {size(step.most_bytes)} beyond the inputs "
            f"after {second / step.step_s:.0%} of its time"
        )
    standards = {s.series.framework: s for s in steps if s.series.variant == "standard"}
    lower = [
        f"{times(factor)} in {framework_title(step.series.framework)}"
        for step in steps
        if step.series.variant == "chunked" and step.series.framework in standards
        if (factor := standards[step.series.framework].most_bytes / max(step.most_bytes, 1)) > 1
    ]
    if lower:
        clauses.append(f"chunked stays lower than standard by {listed(lower)}")
    return _sentence(clauses)


def _worth_naming(steps: Sequence[Dissected]) -> list[tuple[str, Dissected]]:
    """Standard and chunked, and of the others the leanest; a list of all is no sentence."""
    named = [(step.title, step) for step in steps if step.series.variant in COMPARED]
    others = [step for step in steps if step.series.variant not in COMPARED]
    if not others:
        return named
    leanest = min(others, key=lambda step: step.peak_bytes)
    if len(others) == 1:
        return [*named, (leanest.title, leanest)]
    among = f"{len(others)} others" if named else f"{len(others)}"
    return [*named, (f"of {among} the one with the lowest peak, {leanest.title},", leanest)]


def _sentence(clauses: Sequence[str]) -> str:
    text = "; ".join(clauses)
    return f"{text[:1].upper()}{text[1:]}."
