"""What the captions of an anatomy say is what the records say."""

from __future__ import annotations

import pytest

from harness.memory.anatomy import GRADIENT, INPUT, UNUSED, WORKSPACE, Buffer
from harness.report.anatomy_captions import peak_caption, timeline_caption
from tests.harness.report.anatomies import MIB, steps_of

WEIGHT = Buffer(kind=INPUT, name="weight", size_bytes=16 * MIB)
GRADIENTS = Buffer(kind=GRADIENT, name="dW", size_bytes=16 * MIB)
IDLE = Buffer(kind=UNUSED, name="idle", size_bytes=2 * MIB)


def tile(name, mebibytes=64):
    return Buffer(kind=WORKSPACE, name=name, size_bytes=mebibytes * MIB)


@pytest.mark.parametrize(
    ("buffers", "caption"),
    [
        (
            [WEIGHT, tile("exp"), tile("sub"), tile("small", 8)],
            "PyTorch standard holds 152 MiB, 136 MiB of it workspace (2 x 64 MiB: exp and sub), "
            "before a gradient is there.",
        ),
        (
            [WEIGHT, GRADIENTS, tile("exp")],
            "PyTorch standard holds 96 MiB, 64 MiB of it workspace (64 MiB: exp).",
        ),
        (
            [WEIGHT, GRADIENTS, tile("exp"), IDLE],
            "PyTorch standard holds 98 MiB, 64 MiB of it workspace (64 MiB: exp) and 2 MiB not in "
            "use just then.",
        ),
        (
            [WEIGHT, GRADIENTS, tile("exp"), Buffer(kind=UNUSED, name="idle", size_bytes=596)],
            "PyTorch standard holds 96 MiB, 64 MiB of it workspace (64 MiB: exp).",
        ),
        ([WEIGHT, GRADIENTS], "PyTorch standard holds 32 MiB, 0 B of it workspace."),
    ],
    ids=["alike", "with gradients", "unused", "next to nothing unused", "no workspace"],
)
def test_peak_caption(make_anatomy, buffers, caption):
    assert peak_caption(steps_of([make_anatomy(buffers=buffers)])) == caption


PLATEAU = ((0.0, 0), (0.2, 63 * MIB), (0.3, 64 * MIB), (0.9, 64 * MIB + 100), (1.0, 0))
LOW = ((0.0, 0), (0.3, 16 * MIB), (0.9, 0))


@pytest.mark.parametrize(
    ("timelines", "backward_s", "caption"),
    [
        (
            {"standard": PLATEAU},
            0.25,
            "JAX standard is highest in the backward pass, 64 MiB beyond the inputs after 30% of "
            "its time.",
        ),
        (
            {"standard": PLATEAU},
            None,
            "JAX standard is highest in the forward pass, 64 MiB beyond the inputs after 30% of "
            "its time.",
        ),
        (
            {"standard": PLATEAU, "chunked": LOW},
            0.5,
            "JAX standard is highest in the forward pass, 64 MiB beyond the inputs after 30% of "
            "its time; JAX chunked is highest in the forward pass, 16 MiB beyond the inputs after "
            "30% of its time; chunked stays lower than standard by 4x in JAX.",
        ),
        (
            {"standard": LOW, "chunked": PLATEAU},
            0.5,
            "JAX standard is highest in the forward pass, 16 MiB beyond the inputs after 30% of "
            "its time; JAX chunked is highest in the forward pass, 64 MiB beyond the inputs after "
            "30% of its time.",
        ),
    ],
    ids=["backward", "forward alone", "lower", "not lower"],
)
def test_timeline_caption(make_anatomy, timelines, backward_s, caption):
    records = [make_anatomy("jax", variant, buffers=[]) for variant in timelines]
    for record, timeline in zip(records, timelines.values(), strict=True):
        record["anatomy"] |= {"timeline": timeline, "step_s": 1.0, "backward_s": backward_s}
    assert timeline_caption(steps_of(records)) == caption


@pytest.mark.parametrize(
    ("variants", "subjects"),
    [
        (["standard", "chunked"], ["JAX standard", "JAX chunked"]),
        (["standard", "chunked", "optax"], ["JAX standard", "JAX chunked", "JAX optax"]),
        (
            ["standard", "chunked", "fat", "lean", "middling"],
            ["JAX standard", "JAX chunked", "of 3 others the one with the lowest peak, JAX lean,"],
        ),
        (["fat", "lean"], ["Of 2 the one with the lowest peak, JAX lean,"]),
    ],
)
def test_captions_name_standard_and_chunked_and_of_the_others_the_leanest(
    make_anatomy, variants, subjects
):
    sizes = {"lean": 8, "middling": 9}
    steps = steps_of(
        make_anatomy("jax", variant, buffers=[tile("tile", sizes.get(variant, 64))])
        for variant in variants
    )
    peak, timeline = peak_caption(steps), timeline_caption(steps)
    assert [clause.partition(" holds")[0] for clause in peak.split("; ")] == subjects
    clauses = timeline.removesuffix(".").split("; ")
    assert [clause.partition(" is highest")[0] for clause in clauses] == subjects
