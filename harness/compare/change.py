"""What a comparison says of one case: how it changed, and what could not be judged."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.measures import Record

REGRESSIONS = ("broke", "breaks earlier", "slower", "larger")
IMPROVEMENTS = ("mended", "breaks later", "faster", "smaller")
KINDS = REGRESSIONS + IMPROVEMENTS


@dataclass(frozen=True)
class Pair:
    """One case as both runs have it, with what the floor took beside it."""

    old: Record
    new: Record
    old_floor_s: float | None
    new_floor_s: float | None
    machine_ratio: float | None
    """New over old time of all floors of the runs."""

    @property
    def case_id(self) -> str:
        return str(self.new["case_id"])

    @property
    def machine_ratios(self) -> tuple[float, ...]:
        """How much slower the machine became, by the floor of the shape and by all of them."""
        own = None
        if self.old_floor_s and self.new_floor_s:
            own = self.new_floor_s / self.old_floor_s
        return tuple(ratio for ratio in (own, self.machine_ratio) if ratio is not None)


@dataclass(frozen=True)
class Change:
    """One figure of a case that changed beyond the noise; `kind` is one of `KINDS`."""

    kind: str
    figure: str
    old: str
    new: str
    percent: float | None = None
    over_floor: tuple[float, float] | None = None
    """Old and new step time over the floor's, where both runs measured the floor."""

    @property
    def is_regression(self) -> bool:
        return self.kind in REGRESSIONS


@dataclass(frozen=True)
class NotJudged:
    """Something of a case that the two records cannot tell, and why."""

    reason: str


@dataclass(frozen=True)
class Verdict:
    """All that is said of one case; nothing at all where it is the same within the noise."""

    case_id: str
    changes: tuple[Change, ...]
    not_judged: tuple[NotJudged, ...]


def percent_of(old: float, new: float) -> float | None:
    return 100 * (new / old - 1) if old > 0 else None
