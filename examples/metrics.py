"""`metrics.jsonl`: one JSON object a line, the recipe of the run first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"


def line_of(fields: dict[str, Any]) -> str:
    return json.dumps(fields) + "\n"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a file that may be missing, up to one that a kill has cut short."""
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found
