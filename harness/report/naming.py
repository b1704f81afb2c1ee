"""What things are called and in which order they come."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.report.formats import count
from harness.report.measures import Conditions, Record, group_key

_FRAMEWORK_TITLES = {"jax": "JAX", "torch": "PyTorch"}
_STATUS_WORDS = {"oom": "out of memory", "timeout": "timed out"}
_FIRST_VARIANTS = ("standard", "chunked", "two_pass", "one_pass")
_LAST_VARIANTS = ("floor", "stream")


def framework_title(framework: str) -> str:
    return _FRAMEWORK_TITLES.get(framework, framework)


def status_words(status: str) -> str:
    return _STATUS_WORDS.get(status, status)


def variant_order(variant: str) -> tuple[int, str]:
    """Sort key: standard, ours, then the others by name, the yardsticks last."""
    if variant in _FIRST_VARIANTS:
        return _FIRST_VARIANTS.index(variant), variant
    if variant in _LAST_VARIANTS:
        return len(_FIRST_VARIANTS) + 1 + _LAST_VARIANTS.index(variant), variant
    return len(_FIRST_VARIANTS), variant


def label_order(label: str) -> tuple[tuple[int, str], ...]:
    """Sort key that puts vocab_chunk=512 before vocab_chunk=1024."""
    parts = re.split(r"(\d+)", label)
    return tuple((int(part) if part.isdigit() else 0, part) for part in parts)


def variant_labels(records: Sequence[Record]) -> list[str]:
    """One label per record: its variant, and the options that tell it from its twins.

    A sweep over chunk sizes gives several records of one variant in one group; those are
    named "chunked vocab_chunk=512", while a variant that ran once keeps its bare name.
    """
    twins: dict[object, list[Mapping[str, Any]]] = {}
    for record in records:
        key = (group_key(record), record["variant"])
        twins.setdefault(key, []).append(record.get("options") or {})
    differing: dict[str, set[str]] = {}
    for record in records:
        options = twins[group_key(record), record["variant"]]
        names = {name for each in options for name in each}
        differing.setdefault(record["variant"], set()).update(
            name for name in names if len({repr(each.get(name)) for each in options}) > 1
        )
    return [_label(record, sorted(differing[record["variant"]])) for record in records]


def _label(record: Record, option_names: Sequence[str]) -> str:
    options = record.get("options") or {}
    named = [f"{name}={options[name]}" for name in option_names if options.get(name) is not None]
    return " ".join([record["variant"], *named])


def describe(conditions: Conditions) -> str:
    """The conditions of a picture in one line."""
    return ", ".join(_parts(conditions))


def set_apart(conditions: Conditions, among: Iterable[Conditions]) -> str:
    """Of that line what others among them do not share; "" for a single one."""
    others = [_parts(other) for other in among]
    return ", ".join(
        part for part in _parts(conditions) if any(part not in other for other in others)
    )


def _parts(conditions: Conditions) -> list[str]:
    parts = [
        *([f"run {conditions.run}"] if conditions.run else []),
        *([_tokens(conditions)] if conditions.tokens else []),
        f"D = {conditions.hidden_dim}",
        conditions.dtype,
        "device unknown" if conditions.device is None else conditions.device.upper(),
    ]
    if conditions.ignored_fraction:
        parts.append(f"{conditions.ignored_fraction:.0%} of the labels ignored")
    if conditions.memory_limit_gib is not None:
        parts.append(f"memory limit {count(conditions.memory_limit_gib)} GiB")
    return parts


def _tokens(conditions: Conditions) -> str:
    return f"N = {conditions.tokens} tokens ({conditions.batch_size} x {conditions.seq_len})"


def vocabulary_labels(sizes: Sequence[int]) -> tuple[list[str], str]:
    """Short labels for vocabulary sizes, and what their "k" stands for ("" without one)."""
    for thousand in (1024, 1000):
        if sizes and all(size % thousand == 0 for size in sizes):
            return [f"{size // thousand}k" for size in sizes], f"1k = {thousand}"
    return [f"{size:,}" for size in sizes], ""


def listed(parts: Sequence[str]) -> str:
    """Parts as a sentence lists them: a, b and c."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def probes(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Which framework's memory was measured by which probe, each pair once."""
    pairs = {
        (record["framework"], record["memory"]["probe"]): None
        for record in records
        if record.get("memory") and record["memory"].get("probe")
    }
    return [(framework_title(framework), probe) for framework, probe in sorted(pairs)]


def probe_note(records: Sequence[Record]) -> str:
    """E.g. "JAX by xla buffer assignment, PyTorch by torch allocator events"."""
    return ", ".join(f"{framework} by {probe}" for framework, probe in probes(records))
