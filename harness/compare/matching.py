"""Which records of two runs are of the same case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.cases import SWEEP
from harness.compare.change import Pair
from harness.compare.floors import floors_s, machine_ratio
from harness.record import UNAVAILABLE
from harness.report.measures import (
    FLOOR,
    STREAM,
    Record,
    group_key,
    is_probe,
    of_mode,
    settle,
)


@dataclass(frozen=True)
class Matched:
    """The cases that both runs have, and the names of those that one has alone."""

    pairs: tuple[Pair, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    missing: tuple[str, ...]
    """Of `only_old` what could run there: a comparison without it may have lost a regression."""
    machine_ratio: float | None
    """What the floor takes in the new run, as a multiple of the old; None without one."""


def match(old_records: Sequence[Record], new_records: Sequence[Record]) -> Matched:
    """Pairs by `case_id` and device, in the order of the new run.

    The floor is no case of its own: it is what the others' times are held against.
    """
    old, new = _cases(old_records), _cases(new_records)
    old_floors_s, new_floors_s = floors_s(_sweep(old_records)), floors_s(_sweep(new_records))
    ratio = machine_ratio(old_floors_s, new_floors_s)
    common = [name for name in new if name in old and _same_device(old[name], new[name])]
    only_old = [record for name, record in old.items() if name not in common]
    return Matched(
        pairs=tuple(
            Pair(
                old[name],
                new[name],
                old_floors_s.get(group_key(old[name])),
                new_floors_s.get(group_key(new[name])),
                ratio,
            )
            for name in common
        ),
        only_old=tuple(map(_named, only_old)),
        only_new=tuple(_named(record) for name, record in new.items() if name not in common),
        missing=tuple(_named(each) for each in only_old if each["status"] != UNAVAILABLE),
        machine_ratio=ratio,
    )


def _cases(records: Sequence[Record]) -> dict[str, Record]:
    """What stands for itself, by name: no probe on the way to a breaking point."""
    found = [each for each in records if each.get("case_id") is not None and not is_probe(each)]
    yardsticks = FLOOR, STREAM
    return {each["case_id"]: each for each in settle(found) if each["variant"] not in yardsticks}


def _sweep(records: Sequence[Record]) -> list[Record]:
    return [each for each in of_mode(records, SWEEP) if each.get("case_id") is not None]


def _same_device(old: Record, new: Record) -> bool:
    """A process that died before it could name its device may have run on either."""
    devices = {old.get("device"), new.get("device")}
    return None in devices or len(devices) == 1


def _named(record: Record) -> str:
    return f"{record['case_id']} ({record.get('device') or 'device unknown'})"
