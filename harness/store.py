"""The folder of a run, and its records on disk before the next case starts."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

_RECORDS = "records.jsonl"
_RUN = "run.json"


class RunStore:
    """One run: `run.json` says what was asked for, `records.jsonl` what came of it."""

    def __init__(self, directory: Path, command: str) -> None:
        self.directory = directory
        self.run_id = directory.name
        self.command = command

    def append(self, record: dict[str, Any]) -> None:
        """Writes the record through to the disk: nothing measured is ever lost."""
        line = json.dumps(_to_json(record), allow_nan=False)
        with (self.directory / _RECORDS).open("ab+") as file:
            # A line that a kill has cut short must not swallow this one.
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else "\n" + line
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> list[dict[str, Any]]:
        """All whole records; a line that a kill has cut short is not one."""
        path = self.directory / _RECORDS
        if not path.exists():
            return []
        records = []
        for line in path.read_text().splitlines():
            try:
                records.append(_from_json(json.loads(line)))
            except json.JSONDecodeError:
                continue
        return records


def new_run(output_dir: Path, cases: Sequence[dict[str, Any]], command: str) -> RunStore:
    """Makes the folder, named by the time; raises `OSError` where that cannot be."""
    output_dir.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{count}" for count in range(2, 100))):
        directory = output_dir / (stamp + suffix)
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        (directory / _RUN).write_text(
            json.dumps({"command": command, "cases": list(cases)}, indent=1) + "\n"
        )
        return RunStore(directory, command)
    raise FileExistsError(f"{output_dir / stamp} and 98 more exist")


def open_run(directory: Path) -> RunStore:
    """The run whose folder that is; raises `ValueError` where it is none."""
    try:
        run = json.loads((directory / _RUN).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"expected the folder of a run, got {directory} ({error})") from error
    return RunStore(directory, run["command"])


def newest_run(output_dir: Path, cases: Sequence[dict[str, Any]]) -> RunStore | None:
    """The newest run of exactly these cases, measured in the same way."""
    for path in sorted(output_dir.glob(f"*/{_RUN}"), reverse=True):
        try:
            run = json.loads(path.read_text())
        except json.JSONDecodeError:  # killed while it was written: nothing has run
            continue
        if run["cases"] == list(cases):
            return RunStore(path.parent, run["command"])
    return None


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
        return {key: _from_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value
