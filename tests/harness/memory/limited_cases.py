"""python -m tests.harness.memory.limited_cases: runs cases, one after the other, as workers do.

Takes a list of cases as JSON on standard input; prints how each failed, null if it did not.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any

from harness.cases import Case
from harness.worker import run_case


def failure_of(case: Case) -> dict[str, Any] | None:
    gc.collect()  # arrays that the frames of an earlier error hold: they would become room
    found: dict[str, Any] = {}
    run_case(case, None, Path(os.devnull), found.__setitem__)
    return found.get("failure")


if __name__ == "__main__":
    print(json.dumps([failure_of(Case.from_json(fields)) for fields in json.load(sys.stdin)]))
