"""The verdict on one case: how it ended first, and its figures where it ended well twice."""

from __future__ import annotations

from harness import record
from harness.compare.breaking_point import judge_breaking_point
from harness.compare.change import Change, NotJudged, Pair, Verdict
from harness.compare.memory import judge_anatomy, judge_memory
from harness.compare.step_time import judge_step_time
from harness.report.naming import status_words

# Running out of memory is a result, if not the one that was hoped for; the rest are failures.
_SEVERITY = {record.OK: 0, record.OOM: 1, record.MISMATCH: 2, record.ERROR: 2, record.TIMEOUT: 2}


def judge(pair: Pair, threshold_percent: float) -> Verdict:
    """What changed beyond the noise, and what of the case could not be judged."""
    findings = _findings(pair, threshold_percent)
    return Verdict(
        pair.case_id,
        changes=tuple(each for each in findings if isinstance(each, Change)),
        not_judged=tuple(each for each in findings if isinstance(each, NotJudged)),
    )


def _findings(pair: Pair, threshold_percent: float) -> list[Change | NotJudged | None]:
    old, new = (str(each["status"]) for each in (pair.old, pair.new))
    if record.UNAVAILABLE in (old, new):
        return [NotJudged(f"the case: was {status_words(old)}, is {status_words(new)}")]
    if _SEVERITY[old] != _SEVERITY[new]:
        kind = "broke" if _SEVERITY[new] > _SEVERITY[old] else "mended"
        return [Change(kind, "status", status_words(old), status_words(new))]
    if old not in record.EXPECTED:
        return [NotJudged(f"the case: was {status_words(old)}, is {status_words(new)}")]
    if pair.old.get("breaking_point") and pair.new.get("breaking_point"):
        return [judge_breaking_point(pair)]
    if old != record.OK:
        return []
    if pair.old.get("anatomy") and pair.new.get("anatomy"):
        return [judge_anatomy(pair)]
    return [judge_step_time(pair, threshold_percent), judge_memory(pair)]
