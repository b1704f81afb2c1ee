"""A case in one line of the terminal: while it runs, and when it has ended."""

from __future__ import annotations

from statistics import median
from typing import Any

from rich.markup import escape

from harness import record
from harness.cases import BREAKING_POINT, SWEEP, Case


def label(case: Case) -> str:
    size = f"V={case.shape.vocab_size:,}"
    if case.mode == BREAKING_POINT:  # either may be what grows
        size = f"N={case.shape.num_tokens:,} {size}"
    return f"{case.framework} {variant_with_options(case)} {size}"


def variant_with_options(case: Case) -> str:
    """The variant with the options that were given it, shortly."""
    shown = [f"{name}={value}" for name, value in case.options.items() if name != "strategy"]
    return " ".join([case.variant, *shown])


def line(case: Case, result: dict[str, Any]) -> str:
    """One finished case in one line: the figures first, so that they stand in columns."""
    style = {record.OK: "green", record.OOM: "yellow", record.UNAVAILABLE: "bright_black"}
    status = result["status"]
    parts = [
        f"[{style.get(status, 'red')}]{status:<11}[/] {case.framework:<5}",
        *_figures(case, result),
        f"{variant_with_options(case)} N={result['batch_size'] * result['seq_len']:,} "
        f"D={result['hidden_dim']:,} V={result['vocab_size']:,} {result['dtype']}",
    ]
    if found := result["breaking_point"]:
        parts.append(_ends(found))
    if result["error"]:
        first_line = (result["error"]["message"].splitlines() or [""])[0]
        asked = f" ({result['error']['allocation']})" if result["error"].get("allocation") else ""
        parts.append(escape(f"{result['error']['type']}: {first_line[:160]}{asked}"))
    return "  ".join(parts)


def _figures(case: Case, result: dict[str, Any]) -> list[str]:
    """Time and workspace, as wide where one was not measured; only a sweep has them."""
    if case.mode != SWEEP:
        return []
    steps = (result["timing"] or {}).get("step_s")
    step = f"step {median(steps) * 1e3:>9,.1f} ms" if steps else ""
    memory = result["memory"]
    workspace = f"workspace {memory['workspace_bytes'] / 2**20:>8,.1f} MiB" if memory else ""
    return [f"{step:<17}", f"{workspace:<22}"]


def _ends(found: dict[str, Any]) -> str:
    """Where a search ended, in words."""
    ran, failed = found["largest_ran"], found["smallest_failed"]
    parts = [
        "none ran" if ran is None else f"{found['axis']} {ran:,} ran",
        "none failed" if failed is None else f"{failed:,} did not",
    ]
    return ", ".join(parts)
