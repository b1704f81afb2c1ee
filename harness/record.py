"""A record: all that is known of one case, as one JSON object."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from harness.cases import Case

SCHEMA_VERSION = 2

OK = "ok"
OOM = "oom"
TIMEOUT = "timeout"
UNAVAILABLE = "unavailable"
MISMATCH = "mismatch"
ERROR = "error"

# A run that ends in these has found out what it set out to.
EXPECTED = (OK, OOM, UNAVAILABLE)


def new_record(case: Case, run_id: str) -> dict[str, Any]:
    """The record of a case of which nothing is known yet: null is "not measured"."""
    shape, measurement = case.shape, case.measurement
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "case_id": case.case_id,
        "mode": case.mode,
        "started_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": ERROR,
        "framework": case.framework,
        "variant": case.variant,
        "device": None,
        "dtype": shape.dtype,
        "batch_size": shape.batch_size,
        "seq_len": shape.seq_len,
        "hidden_dim": shape.hidden_dim,
        "vocab_size": shape.vocab_size,
        "options": {
            "strategy": case.options.get("strategy"),
            "vocab_chunk": case.options.get("vocab_chunk"),
            "token_chunk": case.options.get("token_chunk"),
            "memory_budget": case.options.get("memory_budget"),
            "ignored_fraction": shape.ignored_fraction,
            "seed": shape.seed,
            "warmup": measurement.warmup,
            "repeats": measurement.repeats,
            "timeout_s": measurement.timeout_s,
            "memory_limit_gib": measurement.memory_limit_gib,
        },
        "plan": None,
        "timing": None,
        "memory": None,
        "numerics": None,
        "anatomy": None,
        "breaking_point": None,
        "trace": None,
        "wall_s": None,
        "error": None,
        "environment": None,
    }


def judge(numerics: dict[str, Any] | None) -> tuple[str, dict[str, str] | None]:
    """`ok`, or `mismatch` and why: an error beyond its tolerance, or not a number."""
    if numerics is None:
        return OK, None
    for name, limit in numerics["tolerance"].items():
        error = numerics[name]
        if math.isnan(error) or error > limit:
            message = f"{name} is {error:.2e}, the tolerance {limit:.2e}"
            return MISMATCH, {"type": "Mismatch", "message": message}
    return OK, None


def printable(text: str) -> str:
    """What a program has said, without what would steer a terminal or cannot be encoded."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1]
        for character in text
    )
