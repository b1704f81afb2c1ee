"""The points of a tuning run: time against workspace, which of them no other beats, and how
far from those the plan's own choices lie. From records alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.formats import mebibytes
from harness.report.measures import (
    FLOOR,
    STREAM,
    GroupKey,
    Record,
    Spread,
    figure,
    group_key,
    is_ok,
    memory_bytes,
    settle,
    spread,
    step_time,
)
from harness.report.roofline import Ceilings, Split, ceilings, split

_PLANNED = "chunked"


@dataclass(frozen=True, eq=False)
class Point:
    """One case of ours. `choice` says whose tiles they are: the plan's, or the grid's ("")."""

    record: Record
    choice: str
    strategy: str | None
    token_chunk: int | None
    vocab_chunk: int | None
    budget_bytes: int | None
    predicted_bytes: int | None
    workspace_bytes: int | None
    step: Spread | None

    @property
    def is_measured(self) -> bool:
        return bool(is_ok(self.record) and self.step and self.workspace_bytes is not None)

    @property
    def measured_over_predicted(self) -> float | None:
        if self.workspace_bytes is None or not self.predicted_bytes:
            return None
        return self.workspace_bytes / self.predicted_bytes

    @property
    def place(self) -> tuple[float, float]:
        """(workspace bytes, median seconds), of a point that is measured."""
        assert self.step is not None
        assert self.workspace_bytes is not None
        return float(self.workspace_bytes), self.step.median


@dataclass(frozen=True)
class Yardstick:
    """A variant that ours are held against: all its samples, and each time it was measured."""

    variant: str
    step: Spread
    medians: tuple[float, ...]
    workspace_bytes: int | None

    @property
    def drift_percent(self) -> float | None:
        """How much slower it was when it was measured again."""
        return 100 * (self.medians[-1] / self.medians[0] - 1) if len(self.medians) > 1 else None


@dataclass(frozen=True)
class Tuning:
    """One framework at one shape."""

    key: GroupKey
    records: tuple[Record, ...]
    points: tuple[Point, ...]
    frontier: tuple[Point, ...]
    """By workspace, the leanest first: each next one is faster."""
    standard: Yardstick | None
    floor: Yardstick | None
    stream: Yardstick | None
    ceilings: Ceilings | None
    """None without a floor or a stream, as in older runs."""

    @property
    def choices(self) -> tuple[Point, ...]:
        return tuple(point for point in self.points if point.choice)

    def over(self, point: Point, yardstick: Yardstick | None) -> float | None:
        if yardstick is None or point.step is None or not is_ok(point.record):
            return None
        return point.step.median / yardstick.step.median

    def split(self, point: Point) -> Split | None:
        """What its step spends on matmuls, and what on the rest."""
        known = {} if self.ceilings is None else {self.key: self.ceilings}
        return split(point.record, known)

    def fastest_within(self, limit_bytes: float) -> Point | None:
        """The fastest point that needs no more than that."""
        fitting = [each for each in self.frontier if each.place[0] <= limit_bytes]
        return fitting[-1] if fitting else None

    def leanest_as_fast(self, limit_s: float) -> Point | None:
        fast = [each for each in self.frontier if each.place[1] <= limit_s]
        return fast[0] if fast else None


def tunings(records: Sequence[Record]) -> list[Tuning]:
    """One for each framework, device and shape among the records."""
    groups: dict[GroupKey, list[Record]] = {}
    for record in settle(records):
        groups.setdefault(group_key(record), []).append(record)
    found, known = [], ceilings([record for group in groups.values() for record in group])
    for key, group in groups.items():
        points = [_point(record) for record in group if record["variant"] in _OURS]
        found.append(
            Tuning(
                key=key,
                records=tuple(group),
                points=tuple(sorted(points, key=_order)),
                frontier=tuple(frontier(points)),
                standard=_yardstick(group, "standard"),
                floor=_yardstick(group, FLOOR),
                stream=_yardstick(group, STREAM),
                ceilings=known.get(key),
            )
        )
    return found


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other is both as lean as and faster than, or as fast as and leaner."""
    best: list[Point] = []
    for point in sorted((point for point in points if point.is_measured), key=lambda p: p.place):
        if not best or point.place[1] < best[-1].place[1]:
            best.append(point)
    return best


_OURS = (_PLANNED, "two_pass", "one_pass")


def _point(record: Record) -> Point:
    options, plan = record.get("options") or {}, record.get("plan") or {}

    def settled(name: str) -> int | None:
        # A loss that never came to say its plan still has what it was asked for.
        value: int | None = plan.get(name, options.get(name))
        return value

    return Point(
        record=record,
        choice=_choice(record),
        strategy=plan.get("strategy", options.get("strategy")),
        token_chunk=settled("token_chunk"),
        vocab_chunk=settled("vocab_chunk"),
        budget_bytes=options.get("memory_budget"),
        predicted_bytes=figure(record, "plan", "workspace_bytes"),
        workspace_bytes=memory_bytes(record, "workspace"),
        step=step_time(record),
    )


def _choice(record: Record) -> str:
    if record["variant"] != _PLANNED:
        return ""
    budget = (record.get("options") or {}).get("memory_budget")
    return "default" if budget is None else f"in {mebibytes(budget)} MiB"


def _order(point: Point) -> tuple[object, ...]:
    """The plan's choices first, then by strategy and tile."""
    tile = point.strategy or "", point.token_chunk or 0, point.vocab_chunk or 0
    return (not point.choice, point.budget_bytes or 0 if point.choice else 0, *tile)


def _yardstick(group: Sequence[Record], variant: str) -> Yardstick | None:
    times = [
        (record, step)
        for record in group
        if record["variant"] == variant and is_ok(record) and (step := step_time(record))
    ]
    samples = [sample for record, _ in times for sample in figure(record, "timing", "step_s")]
    pooled = spread(samples)
    if pooled is None:
        return None
    medians = tuple(step.median for _, step in times)
    return Yardstick(variant, pooled, medians, memory_bytes(times[0][0], "workspace"))
