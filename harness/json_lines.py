"""One JSON object a line, written and read back; whatever else a line may hold is nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def line_of(fields: dict[str, Any]) -> bytes:
    return json.dumps(_to_json(fields), allow_nan=False).encode() + b"\n"


def object_in(line: bytes) -> dict[str, Any] | None:
    """The object; None where the line was cut short, is garbage, or holds no object."""
    try:
        # Decoded here: from bytes, json would take NULs for a sign of UTF-16.
        value = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return _from_json(value) if isinstance(value, dict) else None


def objects_in(path: Path) -> list[dict[str, Any]]:
    """Those of a file that may be missing, up to the first line that is none."""
    found: list[dict[str, Any]] = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        value = object_in(line)
        if value is None:
            break
        found.append(value)
    return found


def _to_json(value: Any) -> Any:
    """JSON has no NaN, and an error that is not a number is a result to be kept."""
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        # A message may be the word "nan", and is no number.
        return {key: item if key == "message" else _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value
