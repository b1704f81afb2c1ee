"""Why there is no run to go on with: what the newest one was measured with instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def what_differs(asked: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> str:
    """Of the cases that were found, e.g. "repeats=5 (not 3), 9 cases (not 6)".

    "" where more than their measurement or their number differs.
    """
    if not asked or not found:
        return ""
    fewer, more = sorted(([_measured(case) for case in cases] for cases in (asked, found)), key=len)
    if any(case not in more for case in fewer):
        return ""
    wanted, had = asked[0].get("measurement", {}), found[0].get("measurement", {})
    parts = [
        f"{name}={had.get(name)} (not {value})"
        for name, value in wanted.items()
        if had.get(name) != value
    ]
    if len(asked) != len(found):
        parts.append(f"{len(found)} cases (not {len(asked)})")
    return ", ".join(parts)


def _measured(case: dict[str, Any]) -> dict[str, Any]:
    """The case without how it is measured; its id names the memory limit."""
    return {name: value for name, value in case.items() if name not in ("measurement", "case_id")}
